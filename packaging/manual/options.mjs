// Formats the usage and the options of a command.
import { formatTagged, renderBlocks } from './render.mjs';
import { bold, escapeCode, escapeRoff, fill, italic, unbroken } from './roff.mjs';

/** Literal words are bold, placeholders italic. */
export function formatUsage(usage) {
  const words = usage.split(/([\s[\]|…()]+)/).map((word) => {
    const text = unbroken(escapeCode(word));
    if (/^(?:-|[a-z])/.test(word)) return bold(text);
    return /^[A-Z/]/.test(word) ? italic(text) : text;
  });
  return `${bold('vproxy')} ${words.join('')}`;
}

/** Formats an option; without blocks of a document, its text in the help describes it. */
export function formatOption({ spellings, takes, describe }, blocks, page) {
  const called = takes === null ? '' : italic(escapeCode(takes.called));
  const tag = spellings.map((spelling) => bold(escapeCode(spelling))).join(', ');
  const full = takes === null ? tag : takes.isOptional ? `${tag}[=${called}]` : `${tag} ${called}`;
  if (blocks.length === 0) return formatTagged(full, fill(`${escapeRoff(describe)}.`));
  const [first, ...more] = blocks;
  return formatTagged(full, renderBlocks([first], page).slice(1), renderBlocks(more, page));
}
