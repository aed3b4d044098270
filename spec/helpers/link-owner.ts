/**
 * A program that has a link, writes a pattern to it, hands the link over to another process of itself in the middle, which writes the
 * rest of the pattern. It tells of what it reads, and of its listener. `close` on a link closes the listener and all links.
 */
import { parseChannel } from '../../lib/channel/address/address.js';
import type { ChannelListener } from '../../lib/channel/kind.js';
import type { Link, LinkState } from '../../lib/link/link.js';
import { changeProcess, patternFrom, programArguments, readCapture, say } from './process-change.js';

interface Settings {
  /** The channel. */
  readonly channel: string;
  /** Where the capture is put. */
  readonly path: string;
  /** How much either process writes, in bytes. */
  readonly bytes: number;
}

interface Capture {
  readonly link: LinkState | null;
  readonly listener: number | null;
}

const { settings: given, capturePath } = programArguments();
const settings = given as Settings;
const { kind, address } = parseChannel(settings.channel);
const links: Link[] = [];
let listener: ChannelListener | null = null;

/** Begins with a link; says what it reads. */
function begin(link: Link, onText: (text: string) => void): void {
  links.push(link);
  link.start({
    onBytes(bytes) {
      const text = bytes.toString();
      say('read', text);
      if (text.endsWith('close')) {
        void listener?.close();
        for (const each of links) each.close();
      } else onText(text);
      return false;
    },
    onDrain: () => say('drained'),
    onClosed: ({ code }) => say('closed', code),
  });
}

/** Writes the share of this process, in single pieces and in several at a time, whatever the link takes. */
function writePattern(link: Link, from: number): void {
  const pattern = patternFrom(from, settings.bytes);
  const quarter = settings.bytes / 4;
  const pieces = [0, 1, 2, 3].map((index) => pattern.subarray(index * quarter, (index + 1) * quarter));
  const [first, second, third, fourth] = pieces as [Buffer, Buffer, Buffer, Buffer];
  link.write(first);
  link.writeParts([second, third]);
  link.write(fourth);
}

/** In the first process: hands over when it is told to. */
function own(link: Link): void {
  begin(link, (text) => {
    if (text.endsWith('write')) writePattern(link, 0);
    if (text.endsWith('go')) {
      setTimeout(() => {
        say('unwritten', link.unwrittenBytes);
        changeProcess(settings.path, (keep): Capture => {
          const listening = listener?.capture?.(keep) ?? null;
          return { link: link.capture?.(keep) ?? null, listener: listening };
        });
      }, 0);
    }
  });
}

/** In the second one: goes on. */
async function goOn(path: string): Promise<void> {
  const { capture: read, take } = readCapture(path);
  const capture = read as Capture;
  const link = capture.link === null ? null : (kind.restoreLink?.(capture.link, take) ?? null);
  if (link === null) {
    say('no link');
    return;
  }
  say('restored', link.description, link.unwrittenBytes);
  // What is written before the start comes behind what the first process has left.
  writePattern(link, settings.bytes);
  begin(link, () => undefined);
  if (capture.listener !== null && kind.mode === 'listen') {
    const onLink = (accepted: Link): void => {
      say('accepted');
      begin(accepted, () => undefined);
    };
    const handlers = { onLink, onFailed: (error: Error) => say('failed', error.message) };
    listener = await kind.listen(address, handlers, take(capture.listener));
    say('listening', listener.description);
  }
}

if (capturePath !== null) {
  await goOn(capturePath);
} else if (kind.mode === 'dial') {
  const signal = new AbortController().signal;
  own(await kind.dial(address, { signal, report: { waiting: () => undefined } }));
} else {
  listener = await kind.listen(address, { onLink: own, onFailed: (error) => say('failed', error.message) });
  say('listening', listener.description);
}
