/** The forwards of a machine, which can be added and removed, and the ports that its peer announces. */
import { useContext, useState } from 'preact/hooks';
import type { ForwardStatus, PortWithUrl, ServiceStatus } from '../../lib/status/types.js';
import { Around, useAction } from './hooks.js';
import { Act, Badge, Foreign, Section, Table } from './parts.js';
import { act } from './requests.js';

export function Ports({ ports }: { readonly ports: readonly PortWithUrl[] }) {
  const ofPeer = ports.filter(({ announcedBy }) => announcedBy === 'peer');
  return (
    <Section title="Ports" count={ofPeer.length} empty="The peer announces no port that listens there.">
      <Table
        label="Ports"
        rows={ofPeer}
        keyOf={({ port }) => String(port)}
        columns={[
          { title: 'Port', cell: ({ port, url, endpoint }) => <PortLink port={port} url={url ?? urlAt(endpoint)} /> },
          { title: 'Program', cell: ({ program }) => <Foreign text={program ?? ''} /> },
          { title: 'Here', cell: ({ endpoint }) => endpoint ?? '', isWide: true },
          { title: 'Streams', cell: ({ streams }) => streams, isNumber: true },
        ]}
      />
    </Section>
  );
}

const PortLink = ({ port, url }: { readonly port: number; readonly url: string | null }) =>
  url === null ? (
    <>{port}</>
  ) : (
    <a href={url} target="_blank" rel="noreferrer noopener">
      {port}
    </a>
  );

/** What listens may not speak HTTP; a browser finds out. */
const urlAt = (endpoint: string | null): string | null =>
  endpoint !== null && /^[\d.]+:\d+$/.test(endpoint) ? `http://${endpoint}/` : null;

export function Forwards({
  process,
  label,
  forwards,
  services,
  again,
}: {
  readonly process: string;
  readonly label: string;
  readonly forwards: readonly ForwardStatus[];
  readonly services: readonly ServiceStatus[];
  readonly again: () => void;
}) {
  const { isReadOnly } = useContext(Around);
  const offered = services.filter(({ offeredBy }) => offeredBy === 'peer').map(({ service }) => service);
  return (
    <>
      <Section title="Forwards" count={forwards.length} empty="There are none.">
        <Table
          label="Forwards"
          rows={forwards}
          isSteady
          keyOf={({ id }) => id}
          columns={[
            { title: 'Forward', cell: ({ spec }) => <Foreign text={spec} /> },
            { title: 'Direction', cell: ({ direction }) => direction, isWide: true },
            { title: 'At', cell: ({ endpoint }) => <Foreign text={endpoint} />, isWide: true },
            {
              title: 'State',
              cell: ({ state, offered: isOffered }) =>
                isOffered === false ? (
                  <Badge tone="doubtful">not offered</Badge>
                ) : (
                  <Badge tone={state === 'active' ? 'good' : 'doubtful'}>{state}</Badge>
                ),
            },
            {
              title: 'Streams',
              cell: ({ streams, opened }) => `${streams} of ${opened}`,
              isNumber: true,
              isWide: true,
            },
            {
              title: '',
              cell: ({ id, spec }) =>
                isReadOnly ? null : (
                  <Act
                    text="Remove"
                    label={`Remove ${spec}`}
                    confirm="Remove it"
                    work={async () => {
                      await act(process, 'DELETE', `forwards/${encodeURIComponent(id)}`);
                      again();
                      return `${spec} was removed`;
                    }}
                  />
                ),
            },
          ]}
        />
      </Section>
      {isReadOnly ? null : <AddForward process={process} label={label} again={again} />}
      <Section title="Services of the peer" count={offered.length} empty="It offers none.">
        <p>
          {offered.map((service) => (
            <span key={service} class="word">
              <Foreign text={service} />
            </span>
          ))}
        </p>
      </Section>
    </>
  );
}

function AddForward({
  process,
  label,
  again,
}: {
  readonly process: string;
  readonly label: string;
  readonly again: () => void;
}) {
  const [direction, setDirection] = useState<'outgoing' | 'incoming'>('outgoing');
  const [spec, setSpec] = useState('');
  const [isBusy, run] = useAction();
  const add = (event: Event): void => {
    event.preventDefault();
    run(async () => {
      const { endpoint } = await act<ForwardStatus>(process, 'POST', 'forwards', { direction, spec, channel: label });
      setSpec('');
      again();
      return `added, at ${endpoint}`;
    });
  };
  return (
    <form class="bar" onSubmit={add}>
      <label>
        Add{' '}
        <select
          value={direction}
          onChange={({ currentTarget }) => setDirection(currentTarget.value as typeof direction)}
        >
          <option value="outgoing">outgoing (-o)</option>
          <option value="incoming">incoming (-i)</option>
        </select>
      </label>
      <input
        aria-label="SERVICE:ADDR:PORT"
        placeholder="ssh:127.0.0.1:9022"
        required
        value={spec}
        onInput={({ currentTarget }) => setSpec(currentTarget.value)}
      />
      <button type="submit" disabled={isBusy}>
        Add
      </button>
    </form>
  );
}
