/** The completion of a shell. */
import { completedCommands } from './completed-command.js';
import { formatBash } from './format-bash.js';
import { formatFish } from './format-fish.js';
import { formatZsh } from './format-zsh.js';

const FORMATS = { bash: formatBash, zsh: formatZsh, fish: formatFish } as const;

/** The script for a shell, as its own programs load it. */
export async function formatCompletion(shell: keyof typeof FORMATS): Promise<string> {
  return FORMATS[shell](await completedCommands(), await channelKinds());
}

/** Only what is printed needs them: they bring all channels along. */
async function channelKinds(): Promise<string[]> {
  const { CHANNEL_KINDS } = await import('../../lib/channel/kinds.js');
  return [...CHANNEL_KINDS.keys()];
}
