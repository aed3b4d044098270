/** The screen of a terminal. xterm.js is loaded with the first that is shown. */
import type { FitAddon } from '@xterm/addon-fit';
import type { Terminal } from '@xterm/xterm';

export interface Screen {
  readonly terminal: Terminal;
  /** Gives it the size of its box. */
  readonly fit: () => void;
}

/** Opens a screen in a box, until `signal`; null if that has come meanwhile. */
export async function openScreen(box: HTMLElement, signal: AbortSignal): Promise<Screen | null> {
  const [{ Terminal }, { FitAddon }] = await Promise.all([import('@xterm/xterm'), import('@xterm/addon-fit')]);
  if (signal.aborted) return null;
  const terminal = new Terminal({
    cursorBlink: true,
    scrollback: 5000,
    fontFamily: 'ui-monospace, monospace',
    fontSize: 14,
    linkHandler: { activate: (_, text) => follow(text) },
  });
  const addon: FitAddon = new FitAddon();
  terminal.loadAddon(addon);
  terminal.open(box);
  signal.addEventListener('abort', () => terminal.dispose());
  return { terminal, fit: () => addon.fit() };
}

/** Opens a link of OSC 8, which is of http or https, and only after a question: its text may say anything. */
function follow(text: string): void {
  // Here marks of direction, and letters of other scripts in a host, are ASCII.
  const { href } = new URL(text);
  if (confirm(`The link leads to ${href}. Open it?`)) open(href, '_blank', 'noopener');
}

/** The queries that xterm.js answers (`InputHandler`), without those of OSC. */
const QUERIES = [
  { final: 'c' },
  { prefix: '>', final: 'c' },
  { final: 'n' },
  { prefix: '?', final: 'n' },
  { intermediates: '$', final: 'p' },
  { prefix: '?', intermediates: '$', final: 'p' },
] as const;

/** The numbers of OSC that set a colour, or with `?` ask for it. */
const COLOURS = [4, 10, 11, 12];

/** Leaves queries without an answer while `isOld`: who asked has gone, and an answer would be typed into what runs now. */
export function ignoreQueries({ parser }: Terminal, isOld: () => boolean): void {
  for (const query of QUERIES) parser.registerCsiHandler(query, isOld);
  for (const number of COLOURS) parser.registerOscHandler(number, (data) => isOld() && data.includes('?'));
  parser.registerDcsHandler({ intermediates: '$', final: 'q' }, isOld);
}
