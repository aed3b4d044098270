/** One machine: what happens on its channel, and what can be done there. */
import { useContext, useEffect, useState } from 'preact/hooks';
import type { HistoryPart, MachineView } from '../views.js';
import { Egresses } from './egress.js';
import { Events } from './events.js';
import { Files } from './files.js';
import { formatAge, formatBytes, formatDuration, formatRate, msSince } from './formats.js';
import { Forwards, Ports } from './forwards.js';
import { Around, placeOf, usePolled } from './hooks.js';
import { Jobs } from './jobs.js';
import { Act, Badge, Foreign, Section, Table } from './parts.js';
import { Plot } from './plot.js';
import { act, formatUrl } from './requests.js';
import { Trouble } from './trouble.js';

const TABS = [
  ['', 'Overview'],
  ['forwards', 'Forwards'],
  ['jobs', 'Jobs and terminals'],
  ['egress', 'Egress'],
  ['files', 'Files'],
  ['events', 'Events'],
] as const;

export function Machine({ process, label, tab, rest }: MachinePlace) {
  const [history, setHistory] = useState<HistoryPart | null>(null);
  const url = formatUrl('/api/machine', { process, channel: label, history: history?.next ?? 0, jobs: tab === 'jobs' });
  const { value: view, failure, again } = usePolled<MachineView>(url);
  useEffect(() => {
    if (view !== null && view.history.roundTrips.length > 0) setHistory((before) => extend(before, view.history));
  }, [view]);
  if (view === null) return <Trouble failure={failure} />;
  const { row, channel } = view;
  return (
    <main>
      <Trouble failure={failure} />
      <div class="bar">
        <h1>
          <Foreign text={label} /> <Badge tone={row.tone}>{row.state}</Badge>
        </h1>
        <span class="aside">
          for {formatAge(msSince(row.since))}
          {row.detail === null ? null : (
            <>
              {': '}
              <Foreign text={row.detail} most={500} />
            </>
          )}
        </span>
      </div>
      <nav aria-label="Parts of the machine" class="tabs">
        {TABS.map(([name, title]) => (
          <a key={name} href={placeOf('m', process, label, name)} aria-current={tab === name ? 'page' : undefined}>
            {title}
          </a>
        ))}
      </nav>
      {tab === '' ? (
        <>
          <Facts view={view} />
          {history === null ? null : <Plot history={history} />}
          <Streams view={view} again={again} />
        </>
      ) : null}
      {tab === 'forwards' ? (
        <>
          <Ports ports={view.ports} />
          <Forwards process={process} label={label} forwards={view.forwards} services={view.services} again={again} />
        </>
      ) : null}
      {tab === 'jobs' ? (
        <Jobs
          process={process}
          label={label}
          isAllowed={offers(channel.session, 'exec')}
          hasSession={channel.session !== null}
          jobs={view.jobs}
          shown={rest[0]}
          again={again}
        />
      ) : null}
      {tab === 'egress' ? (
        <Egresses process={process} label={label} egresses={view.egresses} stats={view.egressStats} again={again} />
      ) : null}
      {tab === 'files' ? (
        <Files
          process={process}
          label={label}
          path={rest[0]}
          isShared={offers(channel.session, 'sftp')}
          hasSession={channel.session !== null}
        />
      ) : null}
      {tab === 'events' ? <Events process={process} label={label} /> : null}
    </main>
  );
}

export interface MachinePlace {
  readonly process: string;
  readonly label: string;
  readonly tab: string;
  /** The words of the place behind the tab. */
  readonly rest: readonly string[];
}

const offers = (session: MachineView['channel']['session'], service: string): boolean =>
  session?.peer.services.includes(service) === true;

/** What came, behind what there was, at most an hour of it. */
function extend(before: HistoryPart | null, part: HistoryPart): HistoryPart {
  // A server that was started anew counts from 0 again.
  if (before === null || part.first !== before.next) return part;
  const join = <T,>(a: readonly T[], b: readonly T[]): readonly T[] => [...a, ...b].slice(-720);
  return {
    first: before.first,
    next: part.next,
    sendRates: join(before.sendRates, part.sendRates),
    receiveRates: join(before.receiveRates, part.receiveRates),
    roundTrips: join(before.roundTrips, part.roundTrips),
  };
}

function Facts({ view: { row, channel, machine } }: { readonly view: MachineView }) {
  const { session, history, totals } = channel;
  const protection = [
    session?.key == null ? '' : `key ${session.key}`,
    session?.tls == null ? '' : `tls=${session.tls}`,
  ];
  const facts: readonly (readonly [string, string])[] = [
    ['Peer', row.peer ?? 'none'],
    ['Round trip', row.roundTripMs === null ? 'not known' : formatDuration(row.roundTripMs)],
    ['Sending', `${formatRate(row.sendRate)} (${formatBytes(totals.sentBytes)})`],
    ['Receiving', `${formatRate(row.receiveRate)} (${formatBytes(totals.receivedBytes)})`],
    ['Sessions', String(history.sessions)],
    ['Protection', protection.filter((text) => text !== '').join(', ') || 'none'],
    ['Channel', channel.address],
    ...(machine === null ? [] : describeMachine(machine)),
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            <Foreign text={value} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function describeMachine({
  hostName,
  os,
  kernel,
  load,
  processors,
  memory,
}: NonNullable<MachineView['machine']>): [string, string][] {
  return [
    ['Host name', hostName],
    ['System', os?.name ?? `${kernel.name} ${kernel.release}`],
    ['Load', `${load.map((value) => value.toFixed(2)).join(' ')} on ${processors}`],
    ['Memory', `${formatBytes(memory.totalBytes - memory.availableBytes)} of ${formatBytes(memory.totalBytes)}`],
  ];
}

function Streams({ view, again }: { readonly view: MachineView; readonly again: () => void }) {
  const { isReadOnly } = useContext(Around);
  const { streams, streamCount, row } = view;
  return (
    <Section title="Streams" count={streamCount} empty="Nothing is connected.">
      <Table
        label="Streams"
        rows={streams}
        isSteady
        keyOf={({ id, direction }) => `${direction}${id}`}
        columns={[
          { title: 'Service', cell: ({ service }) => <Foreign text={service} /> },
          {
            title: 'Direction',
            cell: ({ direction }) => (direction === 'outgoing' ? 'to the peer' : 'from the peer'),
            isWide: true,
          },
          {
            title: 'Who',
            cell: ({ reached, from }) => (
              <Foreign text={reached === null ? (from ?? '') : `${from ?? ''} to ${reached.destination}`} />
            ),
          },
          { title: 'Age', cell: ({ ageMs }) => formatAge(ageMs), isNumber: true, isWide: true },
          { title: 'Sent', cell: ({ sentBytes }) => formatBytes(sentBytes), isNumber: true, isWide: true },
          { title: 'Received', cell: ({ receivedBytes }) => formatBytes(receivedBytes), isNumber: true, isWide: true },
          { title: 'Rate', cell: ({ sendRate, receiveRate }) => formatRate(sendRate + receiveRate), isNumber: true },
          { title: 'Waits for', cell: ({ waitsFor }) => waitsFor ?? '', isWide: true },
          {
            title: '',
            cell: ({ id, service }) =>
              isReadOnly || id === 0 ? null : (
                <Act
                  text="Reset"
                  label={`Reset stream ${id} to ${service}`}
                  confirm="Reset it"
                  work={async () => {
                    await act(row.process, 'DELETE', `streams/${encodeURIComponent(row.label)}/${id}`);
                    again();
                    return `stream ${id} was reset`;
                  }}
                />
              ),
          },
        ]}
      />
      {streamCount > streams.length ? <p class="aside">The busiest {streams.length} are shown.</p> : null}
    </Section>
  );
}
