/** The guest of a scene: the rig's guest, whose agent runs the blocks. */
import { eventually } from '../../helpers/time.js';
import type { Guest } from '../../vm/rig/guest.js';
import { commandsOf } from '../commands-of.js';
import type { Block } from '../parse-document.js';
import type { GuestPlace } from './scene.js';
import { runTranscript } from './shell.js';

/** Enough under emulation, on a busy machine. */
const BLOCK_MS = 180_000;
const STOP_MS = 20_000;

/** Runs each block in its own shell, in root's home; its processes end with the guest. */
export function guestPlace({ agent }: Guest): GuestPlace {
  return {
    async run(block) {
      const runPiece = (line: number, text: string, mayFail: boolean) => runText(block, line, text, mayFail);
      if (block.language === 'console') await runTranscript(block, runPiece);
      else await runPiece(block.line, block.text, false);
    },
    async start(block, isReady) {
      const job = await agent.spawn(['sh', '-euc', `cd; ${commandsOf(block)}`]);
      const staying = { output: '', stop: stopJob };
      const look = async () => {
        staying.output = await job.log();
        return isReady(staying.output);
      };
      await eventually(look, { timeoutMs: BLOCK_MS, intervalMs: 200, what: block.text }).catch((error: unknown) => {
        const message = `${block.document}:${block.line}: ${(error as Error).message}\n${staying.output}`;
        throw new Error(message, { cause: error });
      });
      return staying;

      async function stopJob(): Promise<void> {
        // The whole group, like an interrupt at a terminal; dash does not take "--" for a number.
        await agent.run(`kill -TERM -${job.pid}`);
        await job.waitForEnd(STOP_MS);
      }
    },
  };

  async function runText(block: Block, line: number, text: string, mayFail: boolean) {
    const script = Buffer.from(text).toString('base64');
    const command = `cd; echo ${script} | base64 -d > /tmp/block.sh; sh -eu /tmp/block.sh < /dev/null 2>&1`;
    const { stdout, status } = await agent.run(command, { timeoutMs: BLOCK_MS }).catch((error: unknown) => {
      throw new Error(`${block.document}:${line}: ${text}\n${(error as Error).message}`, { cause: error });
    });
    if (status === 0 || mayFail) return { status, output: stdout };
    throw new Error(
      `${block.document}:${line}: ${text}\nended with status ${status} in the guest, and printed\n${stdout}`,
    );
  }
}
