/** The last events of a machine, or those of one kind. */
import { useEffect, useState } from 'preact/hooks';
import type { ControlEvent } from '../../lib/status/types.js';
import { formatMoment } from './formats.js';
import { Badge, Section, Table } from './parts.js';
import { processUrl, readLines } from './requests.js';

/** As many as the process keeps. */
const KEPT = 500;

export function Events({
  process,
  label,
  title = 'Events',
  isShown = () => true,
}: {
  readonly process: string;
  readonly label: string;
  readonly title?: string;
  readonly isShown?: (event: string) => boolean;
}) {
  const [events, setEvents] = useState<readonly ControlEvent[]>([]);
  useEffect(() => {
    const ending = new AbortController();
    setEvents([]);
    void follow(process, label, ending.signal, (added) => setEvents((before) => [...added, ...before].slice(0, KEPT)));
    return () => ending.abort();
  }, [process, label]);
  const shown = events.filter(({ event }) => isShown(event));
  return (
    <Section title={title} count={shown.length} empty="Nothing has happened that the process still knows.">
      <Table
        label={title}
        rows={shown}
        keyOf={({ seq, time }) => `${time} ${seq}`}
        columns={[
          { title: 'Time', cell: ({ time }) => formatMoment(time) },
          { title: 'Event', cell: ({ event }) => event, isWide: true },
          {
            title: 'Message',
            cell: ({ level, message }) => (
              <>
                {level === 'error' || level === 'warn' ? (
                  <Badge tone={level === 'error' ? 'bad' : 'doubtful'}>{level}</Badge>
                ) : null}{' '}
                <bdi>{message}</bdi>
              </>
            ),
          },
        ]}
      />
    </Section>
  );
}

/** How often what came is shown, and how long after a lost connection it is tried again, in milliseconds. */
const SHOWN_MS = 200;
const AGAIN_MS = 2000;

/** Calls `onEvents` with what happens on the channel, the newest first, until `signal`: also with another process after an upgrade. */
async function follow(
  process: string,
  label: string,
  signal: AbortSignal,
  onEvents: (events: readonly ControlEvent[]) => void,
): Promise<void> {
  let waiting: ControlEvent[] = [];
  let last: ControlEvent | null = null;
  const show = (): void => {
    if (waiting.length > 0) onEvents(waiting.reverse());
    waiting = [];
  };
  const timer = setInterval(show, SHOWN_MS);
  signal.addEventListener('abort', () => clearInterval(timer));
  while (!signal.aborted) {
    try {
      const lines = readLines<ControlEvent>(processUrl(process, 'events', { replay: KEPT }), signal);
      // Another process counts from 1 again: what came before is known by its time, too.
      const known: ControlEvent | null = last;
      for await (const event of lines) {
        const isKnown = known !== null && event.seq <= known.seq && event.time <= known.time;
        if (!isKnown && event.fields['channel'] === label) waiting.push(event);
        last = event;
      }
    } catch {
      // The process is gone, or the page is; the view says so.
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}
