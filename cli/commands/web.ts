/** `vproxy web`: a program of its own, in the folder of the page that it serves. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { VproxyError } from '../../lib/errors.js';
import type { Command } from '../command/command.js';

/** Where the folder is, from here; defined in the bundles. */
declare const VPROXY_WEB: string | undefined;

const FILE = new URL(
  `${typeof VPROXY_WEB === 'string' ? VPROXY_WEB : '../../program/web/'}server.cjs`,
  import.meta.url,
);

/** Throws `bad-file` where only the program was installed. */
export function loadWeb(): Command {
  const file = fileURLToPath(FILE);
  if (!existsSync(file)) throw new VproxyError('bad-file', `vproxy web needs ${file}, of the packages of vproxy`);
  const { command } = createRequire(file)(file) as { readonly command: Command };
  const run: Command['run'] = async (args, runOther) => {
    try {
      return (await command.run(args, runOther)) ?? undefined;
    } catch (error) {
      // It has error classes of its own.
      const { name, code, message } = error as {
        readonly name: string;
        readonly code: string;
        readonly message: string;
      };
      throw name === 'VproxyError' ? new VproxyError(code, message, { cause: error }) : error;
    }
  };
  return { ...command, run };
}
