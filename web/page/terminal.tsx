/** A terminal of the peer, which is a job there: it outlives this page, its server, and the connection. */
import type { FitAddon } from '@xterm/addon-fit';
import type { Terminal as Screen } from '@xterm/xterm';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { JobOfChannel } from '../../lib/status/types.js';
import { processUrl } from './requests.js';

/** How much of what was written before is read again, in bytes. */
const TAIL_BYTES = 200_000;

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
  const bytes = new TextEncoder();
  const isOpen = (): boolean => socket?.readyState === WebSocket.OPEN;
  const resize = (): void => {
    fit.fit();
    if (isOpen()) socket?.send(JSON.stringify({ columns: screen.cols, rows: screen.rows }));
  };
  const observer = new ResizeObserver(resize);
  observer.observe(box);
  screen.onData((text) => isOpen() && socket?.send(bytes.encode(text)));
  screen.onBinary((text) => isOpen() && socket?.send(Uint8Array.from(text, (character) => character.charCodeAt(0))));
  const open = (isSteal: boolean): void => {
    if (signal.aborted) return;
    fit.fit();
    const query = { channel: label, job: job.id, from: next, columns: screen.cols, rows: screen.rows, steal: isSteal };
    socket = new WebSocket(
      new URL(processUrl(process, 'terminal', query), location.href.replace(/^http/, 'ws')),
      'vproxy.terminal',
    );
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => tell('connected');
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === 'string') {
        const { at } = JSON.parse(data) as { at: number };
        // What is no longer kept is missing on the screen.
        if (at > next) screen.write('\r\n\x1b[7m output is missing \x1b[0m\r\n');
        next = at;
        return;
      }
      next += data.byteLength;
      screen.write(new Uint8Array(data));
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
