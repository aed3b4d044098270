/** The text of a block that a shell runs. */
import type { Block } from '../parse-document.js';
import { parseTranscript } from '../transcript.js';

/** The commands of a block without what they print. */
export function commandsOf({ language, text }: Block): string {
  if (language !== 'console') return text;
  return `${parseTranscript(text)
    .map(({ command }) => command)
    .join('\n')}\n`;
}
