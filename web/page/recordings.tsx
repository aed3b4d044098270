/** The recordings of terminals on the host, and a player for one. */
import type { Terminal } from '@xterm/xterm';
import { useEffect, useRef, useState } from 'preact/hooks';
import {
  CAST_CODE,
  type CastEvent,
  type CastHeader,
  parseCastEvent,
  parseCastHeader,
} from '../../lib/services/exec/recording/asciicast.js';
import type { RecordingsView } from '../views.js';
import { formatAge, formatBytes, formatMoment } from './formats.js';
import { placeOf, usePolled } from './hooks.js';
import { Foreign, Section, Table } from './parts.js';
import { formatUrl, messageOf, readTexts } from './requests.js';
import { openScreen } from './screen.js';

/** Pauses are cut to this long, in seconds. */
const PAUSE_S = 2;

/** About so many characters are given to a screen at once: it keeps what it has not yet shown, and shows the whole before anything else. */
const MOST_PENDING = 2 ** 18;

/** The largest screen, as a browser needs time and memory for each character. */
const MOST_COLUMNS = 1000;
const MOST_CHARACTERS = 100_000;

export function Recordings({ name }: { readonly name: string | undefined }) {
  const { value, failure } = usePolled<RecordingsView>('/api/recordings', 10_000);
  return (
    <main>
      <h1>Recordings</h1>
      {failure === null ? null : (
        <p class="notice bad">
          <Foreign text={failure.message} most={500} />
        </p>
      )}
      {name === undefined ? null : <Player key={name} name={name} />}
      {value === null ? null : (
        <Section title="In the folder" count={value.total} empty="None has begun.">
          <Table
            label="Recordings"
            rows={value.recordings}
            isSteady
            keyOf={(one) => one.name}
            columns={[
              {
                title: 'Name',
                cell: (one) => (
                  <a href={placeOf('recordings', one.name)} aria-current={one.name === name ? 'true' : undefined}>
                    <Foreign text={one.name} />
                  </a>
                ),
              },
              { title: 'Size', cell: ({ size }) => formatBytes(size), isNumber: true },
              { title: 'Written', cell: ({ modifiedAt }) => formatMoment(modifiedAt), isWide: true },
            ]}
          />
          {value.recordings.length < value.total ? <p class="aside">The newest are shown.</p> : null}
        </Section>
      )}
    </main>
  );
}

interface Recording {
  readonly header: CastHeader;
  /** With the times at which they are played. */
  readonly events: readonly CastEvent[];
  readonly endS: number;
  /** Why there is no more; null: it was read to its end. */
  readonly failure: string | null;
}

function Player({ name }: { readonly name: string }) {
  const box = useRef<HTMLDivElement>(null);
  const playing = useRef<Playing>(undefined);
  const [recording, setRecording] = useState<Recording | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [atS, setAt] = useState(0);
  const [speed, setSpeed] = useState(1);
  const [isPaused, setPaused] = useState(false);
  useEffect(() => {
    const place = box.current;
    const ending = new AbortController();
    if (place === null) return;
    readRecording(name, ending.signal)
      .then(async (read) => {
        const screen = await openScreen(place, ending.signal);
        if (screen === null) return;
        // It reads no keys, and Tab leaves it.
        screen.terminal.options.disableStdin = true;
        screen.terminal.attachCustomKeyEventHandler(({ key }) => key !== 'Tab');
        playing.current = new Playing(screen.terminal, read, setAt);
        setFailure(read.failure);
        setRecording(read);
      })
      .catch((error: unknown) => ending.signal.aborted || setFailure(messageOf(error)));
    return () => ending.abort();
  }, [name]);
  useEffect(() => {
    if (recording === null || isPaused) return;
    let lastMs = performance.now();
    const timer = setInterval(() => {
      const nowMs = performance.now();
      playing.current?.advance((speed * (nowMs - lastMs)) / 1000);
      lastMs = nowMs;
    }, TICK_MS);
    return () => clearInterval(timer);
  }, [recording, isPaused, speed]);
  const isOver = recording !== null && atS >= recording.endS;
  return (
    <Section title="Recording">
      <p class="aside">
        <Foreign text={recording?.header.command ?? name} most={300} />
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Screen">
        <div ref={box} class="recording" />
      </div>
      {failure === null ? null : (
        <p class="notice bad">
          <Foreign text={failure} most={500} />
        </p>
      )}
      {recording === null ? null : (
        <div class="bar">
          <button
            type="button"
            onClick={() => {
              if (isOver) playing.current?.seek(0);
              setPaused(!isPaused && !isOver);
            }}
          >
            {isOver ? 'Again' : isPaused ? 'Play' : 'Pause'}
          </button>
          <input
            type="range"
            aria-label="Position, in seconds"
            max={recording.endS}
            step="any"
            value={atS}
            onInput={({ currentTarget }) => playing.current?.seek(currentTarget.valueAsNumber)}
          />
          <span class="aside">
            {formatAge(1000 * atS)} of {formatAge(1000 * recording.endS)}
          </span>
          <select aria-label="Speed" onChange={({ currentTarget }) => setSpeed(Number(currentTarget.value))}>
            {[1, 2, 4, 16].map((times) => (
              <option key={times} value={times}>
                {times} ×
              </option>
            ))}
          </select>
        </div>
      )}
    </Section>
  );
}

async function readRecording(name: string, signal: AbortSignal): Promise<Recording> {
  let header: CastHeader | null = null;
  let failure: string | null = null;
  const events: CastEvent[] = [];
  let [lines, endS, lastS] = [0, 0, 0];
  for await (const line of readTexts(formatUrl('/api/recording', { name }), signal)) {
    lines += 1;
    try {
      if (header === null) {
        header = parseCastHeader(line);
        continue;
      }
      const { timeS, code, data } = parseCastEvent(line);
      endS += Math.min(Math.max(0, timeS - lastS), PAUSE_S);
      lastS = Math.max(lastS, timeS);
      for (let at = 0; at < data.length; at += MOST_PENDING)
        events.push({ timeS: endS, code, data: data.slice(at, at + MOST_PENDING) });
    } catch (error) {
      failure = `line ${lines}: ${messageOf(error)}`;
      break;
    }
  }
  if (header === null) throw new Error(failure ?? 'nothing is recorded yet');
  return { header, events, endS, failure };
}

const TICK_MS = 50;

/** The sequence RIS, and OSC for the colours, which it leaves. */
const RESET = '\x1bc\x1b]104\x07\x1b]110\x07\x1b]111\x07\x1b]112\x07';

/** What an event `r` has. */
const SIZE = /^(\d{1,5})x(\d{1,5})$/;

/** Plays on a screen, as it is told how the time goes. */
class Playing {
  readonly #screen: Terminal;
  readonly #recording: Recording;
  readonly #tell: (atS: number) => void;
  #atS = 0;
  /** The number of events that were played. */
  #played = 0;
  /** Whether the screen is as at the beginning, or will be before anything else is shown. */
  #isReset = false;
  #isShowing = false;

  /** `tell`: is told where it is. */
  constructor(screen: Terminal, recording: Recording, tell: (atS: number) => void) {
    this.#screen = screen;
    this.#recording = recording;
    this.#tell = tell;
    this.seek(0);
  }

  advance(passedS: number): void {
    this.#goTo(this.#atS + passedS);
  }

  seek(atS: number): void {
    if (atS <= this.#atS) [this.#played, this.#isReset] = [0, true];
    this.#goTo(atS);
  }

  #goTo(atS: number): void {
    this.#atS = Math.min(atS, this.#recording.endS);
    this.#tell(this.#atS);
    if (!this.#isShowing) void this.#show();
  }

  /** Shows what is due, in its order. */
  async #show(): Promise<void> {
    this.#isShowing = true;
    for (;;) {
      const { size, text } = this.#take();
      if (size === null && text === '') break;
      if (size !== null) this.#resize(size);
      await new Promise<void>((resolve) => this.#screen.write(text, resolve));
    }
    this.#isShowing = false;
  }

  /** What is due next: a size, or null, and the output that follows it. */
  #take(): { size: CastHeader['size'] | null; text: string } {
    let size = this.#isReset ? this.#recording.header.size : null;
    const reset = this.#isReset ? RESET : '';
    this.#isReset = false;
    let text = '';
    for (; text.length < MOST_PENDING; this.#played += 1) {
      const event = this.#recording.events[this.#played];
      if (event === undefined || event.timeS > this.#atS) break;
      const [, columns, rows] = (event.code === CAST_CODE.RESIZE && SIZE.exec(event.data)) || [];
      if (columns !== undefined) {
        if (text !== '') break;
        size = { columns: Number(columns), rows: Number(rows) };
      }
      if (event.code === CAST_CODE.OUTPUT) text += event.data;
    }
    return { size, text: reset + text };
  }

  #resize(size: CastHeader['size']): void {
    const columns = Math.max(1, Math.min(size.columns, MOST_COLUMNS));
    this.#screen.resize(columns, Math.max(1, Math.min(size.rows, Math.floor(MOST_CHARACTERS / columns))));
  }
}
