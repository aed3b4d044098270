/** A terminal of the peer, which is a job there: it outlives this page, its server, and the connection. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { JobOfChannel } from '../../lib/status/types.js';
import { processUrl } from './requests.js';
import { ignoreQueries, openScreen, type Screen } from './screen.js';

/** How much of what was written before is read again, in bytes. */
const TAIL_BYTES = 200_000;

/** The most of a paste in one message, in bytes: the control socket closes at one of more than a mebibyte. */
const PIECE_BYTES = 65_536;

/** The most that a screen has yet to show, in bytes: it drops what comes beyond 50 MB. A hidden page shows little in a second. */
const MOST_BEHIND = 2 ** 24;

/** The time until the next attempt after a lost connection, in milliseconds. */
const AGAIN_MS = 1000;

/** What a screen reports without a key when it gets or loses the focus, or a program asks for these reports. */
const FOCUS_REPORT = /^\x1b\[[IO]$/;

interface TerminalOf {
  readonly process: string;
  readonly label: string;
  readonly job: JobOfChannel;
}

interface State {
  readonly text: string;
  /** Takes the terminal back from who has taken it over. */
  readonly takeBack?: () => void;
}

export function Terminal({ process, label, job }: TerminalOf) {
  const box = useRef<HTMLDivElement>(null);
  const [{ text, takeBack }, setState] = useState<State>({ text: 'connecting' });
  useEffect(() => {
    const place = box.current;
    const ending = new AbortController();
    if (place !== null)
      void openScreen(place, ending.signal).then(
        (screen) => screen && connect(screen, { process, label, job }, place, ending.signal, setState),
      );
    return () => ending.abort();
  }, [process, label, job.id]);
  return (
    <>
      <div ref={box} class="terminal" />
      <p class="aside" role="status">
        {text}
        {takeBack === undefined ? null : (
          <button type="button" onClick={takeBack}>
            Take it back
          </button>
        )}
      </p>
    </>
  );
}

/** Joins a screen with the job, and again after each lost connection, from the byte that follows. */
function connect(
  { terminal, fit }: Screen,
  { process, label, job }: TerminalOf,
  box: HTMLElement,
  signal: AbortSignal,
  tell: (state: State) => void,
): void {
  let next = Math.max(job.keptFrom, job.bytes - TAIL_BYTES);
  let socket: WebSocket | null = null;
  let timer = 0;
  /** Where the screen is, and the end of what was written before this connection. */
  let [shown, oldEnd] = [next, Number.POSITIVE_INFINITY];
  /** The bytes that the screen has yet to show. */
  let behind = 0;
  /** What was typed without a connection. */
  let typed: Uint8Array<ArrayBuffer>[] = [];
  const bytes = new TextEncoder();
  const isOld = (): boolean => shown < oldEnd;
  const isOpen = (): boolean => socket?.readyState === WebSocket.OPEN;
  const type = (data: Uint8Array<ArrayBuffer>): void => {
    for (let at = 0; at < data.length; at += PIECE_BYTES) {
      const piece = data.subarray(at, at + PIECE_BYTES);
      if (isOpen()) socket?.send(piece);
      else typed.push(piece);
    }
  };
  const resize = (): void => {
    fit();
    if (isOpen()) socket?.send(JSON.stringify({ columns: terminal.cols, rows: terminal.rows }));
  };
  /** The screen is at `end` when it has got so far, and not before. */
  const write = (data: Uint8Array): void => {
    if (data.length === 0) return;
    next += data.length;
    behind += data.length;
    const end = next;
    terminal.write(data, () => {
      shown = end;
      behind -= data.length;
    });
  };
  const observer = new ResizeObserver(resize);
  observer.observe(box);
  terminal.focus();
  ignoreQueries(terminal, isOld);
  terminal.onData((text) => (isOld() && FOCUS_REPORT.test(text)) || type(bytes.encode(text)));
  terminal.onBinary((text) => type(Uint8Array.from(text, (character) => character.charCodeAt(0))));
  // Tab is the terminal's, so another key leaves it.
  terminal.attachCustomKeyEventHandler(({ key, shiftKey }) => {
    const isLeft = shiftKey && key === 'Escape';
    if (isLeft) terminal.blur();
    return !isLeft;
  });
  const takeBack = (): void => {
    // Not twice.
    tell({ text: 'connecting' });
    open();
  };
  /** Disconnects until all is shown that has come: a browser cannot make a WebSocket wait. */
  const catchUp = (): void => {
    if (socket !== null) socket.onmessage = socket.onclose = null;
    socket?.close();
    socket = null;
    tell({ text: 'connecting when the screen has caught up' });
    terminal.write('', open);
  };
  const open = (): void => {
    if (signal.aborted) return;
    fit();
    const { cols: columns, rows } = terminal;
    const query = { channel: label, job: job.id, from: next, columns, rows, steal: true };
    socket = new WebSocket(
      new URL(processUrl(process, 'terminal', query), location.href.replace(/^http/, 'ws')),
      'vproxy.terminal',
    );
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      tell({ text: 'connected' });
      resize();
      for (const piece of typed) socket?.send(piece);
      typed = [];
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === 'string') {
        const { at, end } = JSON.parse(data) as { at: number; end?: number };
        // Older vproxies do not say it.
        if (end !== undefined || oldEnd === Number.POSITIVE_INFINITY) oldEnd = end ?? job.bytes;
        // What is no longer kept is missing on the screen.
        terminal.write(at > next ? '\r\n\x1b[7m output is missing \x1b[0m\r\n' : '', () => (shown = at));
        next = at;
        return;
      }
      const oldBytes = Math.max(0, oldEnd - next);
      const received = new Uint8Array(data);
      write(received.subarray(0, oldBytes));
      write(received.subarray(oldBytes));
      if (behind > MOST_BEHIND) catchUp();
    };
    socket.onclose = ({ code, reason }) => {
      if (signal.aborted) return;
      if (code === 1000) tell({ text: `The command has ended: ${reason}` });
      else if (reason.startsWith('input-taken')) tell({ text: reason, takeBack });
      else if (/^(?:not-found|command-denied)/.test(reason)) tell({ text: reason });
      else {
        tell({ text: `The connection is lost (${reason || code}); trying again` });
        timer = window.setTimeout(open, AGAIN_MS);
      }
    };
  };
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    observer.disconnect();
    socket?.close();
  });
  open();
}
