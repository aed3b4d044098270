/** `vproxy check FILE`: reports all problems of a configuration file, or prints its channels. */
import { describeForward } from '../../lib/forward/spec.js';
import { findObstacles } from '../../lib/proxy/channel/check-channel.js';
import type { Configuration, FlagLayer } from '../../lib/settings/configuration.js';
import { inspectConfiguration } from '../../lib/settings/file/read-configuration.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import { formatCopyFlag, formatExecFlag } from '../../lib/settings/permissions.js';
import { BadFileError, formatProblem, type Problem, showFile } from '../../lib/settings/problem.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Command } from '../command/command.js';
import { EXIT_OK } from '../exit.js';
import { withKeyFiles } from '../run/key-files.js';
import { paintFor } from '../ui/color.js';
import { output, print } from '../ui/print.js';

export const command: Command = {
  usage: 'check FILE',
  about:
    'Checks a configuration, TOML or JSON, and reports all its problems, or prints its channels and forwards. FILE may be a folder, as for --config.',
  examples: [['vproxy check /etc/vproxy/host1.toml', 'Before a reload']],
  options: {},
  isLocal: true,
  operands: ['FILE'],
  async run({ operands: [file = ''] }) {
    try {
      const configuration = await readAlone(file);
      print(`${showFile(file)}: ${paintFor(output)('ok', 'good')}\n${describe(configuration)}`);
      return EXIT_OK;
    } catch (error) {
      if (!(error instanceof BadFileError)) throw error;
      const paint = paintFor(process.stderr);
      for (const problem of error.details) {
        const [name, line] = [`${showFile(problem.file)}:`, formatProblem(problem)];
        process.stderr.write(`${paint(name, 'bad')}${line.slice(name.length)}\n`);
      }
      return error.row.exit;
    }
  },
};

const NO_FLAGS: FlagLayer = { settings: {}, channels: [], forwards: [] };

/** The effective configuration of a file or a folder without any other argument. Rejects with a `BadFileError`. */
export async function readAlone(file: string): Promise<Configuration> {
  const { layer, problems, fileOf } = await inspectConfiguration(file);
  if (layer.channels.length === 0 && (problems.length > 0 || layer.mayBeEmpty !== true)) {
    throw new BadFileError(problems.length > 0 ? problems : [{ file, where: ['channels'], message: 'none defined' }]);
  }
  const credentials = process.env['CREDENTIALS_DIRECTORY'] ?? null;
  const configuration = mergeConfiguration(...withKeyFiles(layer, NO_FLAGS, credentials));
  const refused = (await findRefused(configuration)).map((problem) => ({ ...problem, file: fileOf(problem.where) }));
  if (problems.length + refused.length > 0) throw new BadFileError([...problems, ...refused]);
  return configuration;
}

/** Problems that a proxy would refuse to start with, such as listeners that need `insecure`, and unknown users. */
async function findRefused({ channels }: Configuration): Promise<Problem[]> {
  const refused = await findObstacles(channels);
  return [...refused].map(([label, { message }]) => ({ where: ['channels', label], message }));
}

/** A line for each channel, and for each of its forwards. */
function describe({ channels }: Configuration): string {
  const lines = channels.flatMap(({ label, address, forwards = [], template = [], exec = null, copy = null }) => [
    `${label}: ${escapeText(address.text, 1024)}`,
    ...[...template, ...forwards.map(describeForward)].map(
      ({ direction, text }) => `  ${direction === 'outgoing' ? '-o' : '-i'} ${escapeText(text, 1024)}`,
    ),
    ...[formatExecFlag(exec), formatCopyFlag(copy)].flatMap((flag) =>
      flag === null ? [] : [`  ${escapeText(flag, 1024)}`],
    ),
  ]);
  return lines.map((line) => `${line}\n`).join('');
}
