/** A terminal of the peer, which is a job there: it outlives this page, its server, and the connection. */
import type { FitAddon } from '@xterm/addon-fit';
import type { Terminal as Screen } from '@xterm/xterm';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { JobOfChannel } from '../../lib/status/types.js';
import { processUrl } from './requests.js';

/** How much of what was written before is read again, in bytes. */
const TAIL_BYTES = 200_000;

/** The most of a paste in one message, in bytes: the control socket closes at one of more than a mebibyte. */
const PIECE_BYTES = 65_536;

/** The time until the next attempt after a lost connection, in milliseconds. */
const AGAIN_MS = 1000;

interface TerminalOf {
  readonly process: string;
  readonly label: string;
  readonly job: JobOfChannel;
}

export function Terminal({ process, label, job }: TerminalOf) {
  const box = useRef<HTMLDivElement>(null);
  const [state, setState] = useState('connecting');
  useEffect(() => {
    const ending = new AbortController();
    void show(ending.signal);
    return () => ending.abort();
    async function show(signal: AbortSignal): Promise<void> {
      const [{ Terminal: Screen }, { FitAddon }] = await Promise.all([
        import('@xterm/xterm'),
        import('@xterm/addon-fit'),
      ]);
      if (signal.aborted || box.current === null) return;
      const screen = new Screen({
        cursorBlink: true,
        scrollback: 5000,
        fontFamily: 'ui-monospace, monospace',
        fontSize: 14,
      });
      const fit = new FitAddon();
      screen.loadAddon(fit);
      screen.open(box.current);
      signal.addEventListener('abort', () => screen.dispose());
      screen.focus();
      connect(screen, fit, { process, label, job }, box.current, signal, setState);
    }
  }, [process, label, job.id]);
  return (
    <>
      <div ref={box} class="terminal" />
      <p class="aside" role="status">
        {state}
      </p>
    </>
  );
}

/** Joins a screen with the job, and again after each lost connection, from the byte that follows. */
function connect(
  screen: Screen,
  fit: FitAddon,
  { process, label, job }: TerminalOf,
  box: HTMLElement,
  signal: AbortSignal,
  tell: (state: string) => void,
): void {
  let next = Math.max(job.keptFrom, job.bytes - TAIL_BYTES);
  let socket: WebSocket | null = null;
  let timer = 0;
  /** Where the screen is. */
  let shown = next;
  /** What was typed without a connection. */
  let typed: Uint8Array<ArrayBuffer>[] = [];
  const bytes = new TextEncoder();
  const type = (data: Uint8Array<ArrayBuffer>): void => {
    // The screen answers queries also in what was written before the page was loaded: that is no input.
    if (shown < job.bytes) return;
    for (let at = 0; at < data.length; at += PIECE_BYTES) {
      const piece = data.subarray(at, at + PIECE_BYTES);
      if (isOpen()) socket?.send(piece);
      else typed.push(piece);
    }
  };
  const isOpen = (): boolean => socket?.readyState === WebSocket.OPEN;
  const resize = (): void => {
    fit.fit();
    if (isOpen()) socket?.send(JSON.stringify({ columns: screen.cols, rows: screen.rows }));
  };
  const observer = new ResizeObserver(resize);
  observer.observe(box);
  screen.onData((text) => type(bytes.encode(text)));
  screen.onBinary((text) => type(Uint8Array.from(text, (character) => character.charCodeAt(0))));
  // Tab is the terminal's, so another key leaves it.
  screen.attachCustomKeyEventHandler(({ key, shiftKey }) => {
    const isLeft = shiftKey && key === 'Escape';
    if (isLeft) screen.blur();
    return !isLeft;
  });
  const open = (isSteal: boolean): void => {
    if (signal.aborted) return;
    fit.fit();
    const query = { channel: label, job: job.id, from: next, columns: screen.cols, rows: screen.rows, steal: isSteal };
    socket = new WebSocket(
      new URL(processUrl(process, 'terminal', query), location.href.replace(/^http/, 'ws')),
      'vproxy.terminal',
    );
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      tell('connected');
      resize();
      for (const piece of typed) socket?.send(piece);
      typed = [];
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === 'string') {
        const { at } = JSON.parse(data) as { at: number };
        // What is no longer kept is missing on the screen.
        screen.write(at > next ? '\r\n\x1b[7m output is missing \x1b[0m\r\n' : '', () => (shown = at));
        next = at;
        return;
      }
      next += data.byteLength;
      const end = next;
      screen.write(new Uint8Array(data), () => (shown = end));
    };
    socket.onclose = ({ code, reason }) => {
      if (signal.aborted) return;
      if (code === 1000) tell(`The command has ended: ${reason}`);
      else if (/^(?:not-found|input-taken|command-denied)/.test(reason)) tell(reason);
      else {
        tell(`The connection is lost (${reason || code}); trying again`);
        timer = window.setTimeout(() => open(true), AGAIN_MS);
      }
    };
  };
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    observer.disconnect();
    socket?.close();
  });
  open(true);
}
