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
import { formatUrl, readTexts } from './requests.js';
import { openScreen } from './screen.js';

/** Pauses are cut to this long, in seconds. */
const PAUSE_S = 2;

/** The characters that a screen is given at once: it keeps what it has not yet shown. */
const MOST_PENDING = 2 ** 20;

/** The largest screen: a browser needs memory for each character. */
const MOST_SIDE = 1000;

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

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function readRecording(name: string, signal: AbortSignal): Promise<Recording> {
  let header: CastHeader | null = null;
  let failure: string | null = null;
  const events: CastEvent[] = [];
  let [cutS, lastS] = [0, 0];
  for await (const line of readTexts(formatUrl('/api/recording', { name }), signal)) {
    try {
      if (header === null) {
        header = parseCastHeader(line);
        continue;
      }
      const event = parseCastEvent(line);
      const pauseS = Math.max(0, event.timeS - lastS);
      cutS += Math.max(0, pauseS - PAUSE_S);
      lastS = Math.max(lastS, event.timeS);
      events.push({ ...event, timeS: lastS - cutS });
    } catch (error) {
      failure = `line ${events.length + (header === null ? 1 : 2)}: ${messageOf(error)}`;
      break;
    }
  }
  if (header === null) throw new Error(failure ?? 'nothing is recorded yet');
  return { header, events, endS: lastS - cutS, failure };
}

const TICK_MS = 50;

/** The sequence RIS. */
const RESET = '\x1bc';

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
  #isShowing = false;

  /** `tell`: is told where it is. */
  constructor(screen: Terminal, recording: Recording, tell: (atS: number) => void) {
    this.#screen = screen;
    this.#recording = recording;
    this.#tell = tell;
    screen.options.disableStdin = true;
    this.seek(0);
  }

  advance(passedS: number): void {
    this.#goTo(this.#atS + passedS);
  }

  seek(atS: number): void {
    if (atS <= this.#atS) {
      this.#screen.write(RESET);
      this.#resize(this.#recording.header.size);
      this.#played = 0;
    }
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
    for (let pending = 0; ; this.#played += 1) {
      const event = this.#recording.events[this.#played];
      if (event === undefined || event.timeS > this.#atS) break;
      const { code, data } = event;
      if (code === CAST_CODE.OUTPUT) this.#screen.write(data);
      const [, columns, rows] = (code === CAST_CODE.RESIZE && SIZE.exec(data)) || [];
      if (columns !== undefined) this.#resize({ columns: Number(columns), rows: Number(rows) });
      pending += data.length;
      if (pending < MOST_PENDING) continue;
      pending = 0;
      await new Promise<void>((resolve) => this.#screen.write('', resolve));
    }
    this.#isShowing = false;
  }

  #resize({ columns, rows }: CastHeader['size']): void {
    const side = (length: number): number => Math.max(1, Math.min(length, MOST_SIDE));
    // After what was written before.
    this.#screen.write('', () => this.#screen.resize(side(columns), side(rows)));
  }
}
