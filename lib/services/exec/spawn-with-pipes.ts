/** Runs a command with pipes for its input and outputs. */
import { ProcessGroup, startTurns } from '../../system/processes/children.js';
import { type OpenPipes, openSystemPipes, type PipedProcess, spawnPiped } from '../../system/processes/pipes.js';
import { startProcess } from '../../system/processes/start-process.js';
import type { CommandOptions, RunningCommand } from './running-command.js';
import { spawnFailure } from './spawn-failure.js';

/**
 * Starts a command. Rejects with `command-not-found` or `command-failed`. Without pipes (koffi is missing) it gets unix
 * sockets, which it cannot reopen as `/dev/stdout`, and always two.
 */
export async function spawnWithPipes(
  options: CommandOptions,
  openPipes: OpenPipes = openSystemPipes,
): Promise<RunningCommand> {
  const { file, argv, cwd, env, uid, gid, owner, hasInput = true, hasOneOutput = false } = options;
  const opened = await openPipes(1 + (hasOneOutput ? 0 : 1) + (hasInput ? 1 : 0), owner);
  const pipes = hasOneOutput && opened?.[0] !== undefined ? [opened[0], ...opened] : opened;
  const start = async (): Promise<RunningCommand> => {
    const piped = await spawnPiped(pipes, hasInput, (stdio) => {
      options.requireWanted?.();
      return startProcess({ file, argv, cwd, env, uid, gid, stdio });
    });
    return running(piped);
  };
  return startTurns.queue(start).catch((error: unknown) => {
    throw spawnFailure(error, options);
  });
}

function running(piped: PipedProcess): RunningCommand {
  const { stdin, stdout, stderr, release } = piped;
  const group = new ProcessGroup(piped);
  // A broken pipe is reported by its close.
  for (const stream of [stdin, stdout, stderr]) stream?.on('error', () => undefined);
  return {
    pid: group.pid,
    stdin,
    stdout,
    stderr,
    ended: group.ended,
    resize: () => undefined,
    signal: (name) => group.signal(name),
    release,
  };
}
