/** The table of all machines. Only the rows that are seen are asked for. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { type MachineRow, type MachinesView, ORDERS } from '../views.js';
import { formatAge, formatBytes, formatDuration, formatRate, msSince } from './formats.js';
import { placeOf, usePolled } from './hooks.js';
import { Badge, Foreign, Spark } from './parts.js';
import { formatUrl } from './requests.js';
import { Trouble } from './trouble.js';

/** The height of a row, as page.css has it. */
const ROW_PX = 44;

/** Rows above and below the window, so that scrolling shows no gaps. */
const MARGIN_ROWS = 10;

export function Machines() {
  const [filter, setFilter] = useState('');
  const [order, setOrder] = useState<(typeof ORDERS)[number]>('name');
  const body = useRef<HTMLTableSectionElement>(null);
  const [range, setRange] = useState({ from: 0, count: 50 });
  const query = { ...range, order, filter: filter === '' ? undefined : filter };
  const { value: view, failure } = usePolled<MachinesView>(formatUrl('/api/machines', query));
  useEffect(() => {
    const measure = (): void => {
      const above = -(body.current?.getBoundingClientRect().top ?? 0);
      const seen = Math.ceil(innerHeight / ROW_PX);
      // In steps, so that not each pixel asks anew.
      const from = Math.max(0, Math.floor(above / ROW_PX / MARGIN_ROWS) * MARGIN_ROWS - MARGIN_ROWS);
      setRange((before) => (before.from === from ? before : { from, count: seen + 3 * MARGIN_ROWS }));
    };
    addEventListener('scroll', measure, { passive: true });
    addEventListener('resize', measure);
    return () => {
      removeEventListener('scroll', measure);
      removeEventListener('resize', measure);
    };
  }, []);
  if (view === null) return <Trouble failure={failure} />;
  const { processes, rows, from, matching, total, troubled, questions } = view;
  const gone = processes.filter(({ trouble }) => trouble !== null);
  return (
    <main>
      <Trouble failure={failure} />
      {gone.map(({ key, trouble }) => (
        <p key={key} class="notice bad">
          <Foreign text={key} />: <Foreign text={trouble ?? ''} most={500} />
        </p>
      ))}
      {questions.length > 0 ? (
        <p class="notice doubtful">
          <a href={placeOf('egress')}>
            {questions.length === 1 ? 'A destination waits' : `${questions.length} destinations wait`} for an answer
          </a>
        </p>
      ) : null}
      <div class="bar">
        <h1>
          Machines <span class="count">{total}</span>
          {troubled > 0 ? <Badge tone="doubtful">{troubled} not well</Badge> : null}
        </h1>
        <label>
          Filter <input type="search" value={filter} onInput={({ currentTarget }) => setFilter(currentTarget.value)} />
        </label>
        <label>
          Order{' '}
          <select value={order} onChange={({ currentTarget }) => setOrder(currentTarget.value as typeof order)}>
            {ORDERS.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </div>
      {total === 0 ? (
        <p class="aside">
          {processes.length === 0
            ? 'No running vproxy has a control socket that this user can use.'
            : 'The running processes have no channels.'}
        </p>
      ) : (
        <table class="machines" aria-rowcount={matching + 1}>
          <caption class="hidden">
            {matching} of {total} machines
          </caption>
          <thead>
            <tr>
              <th scope="col">Machine</th>
              <th scope="col" class="state">
                State
              </th>
              <th scope="col" class="wide">
                Peer
              </th>
              <th scope="col" class="number wide">
                Round trip
              </th>
              <th scope="col" class="number wide">
                Streams
              </th>
              <th scope="col" class="wide load">
                Load, memory
              </th>
              <th scope="col" class="number">
                Traffic
              </th>
              <th scope="col" class="wide">
                Last minutes
              </th>
            </tr>
          </thead>
          <tbody ref={body}>
            <Space rows={from} />
            {rows.map((row, index) => (
              <Row key={`${row.process}/${row.label}`} row={row} index={from + index} isOne={processes.length === 1} />
            ))}
            <Space rows={matching - from - rows.length} />
          </tbody>
        </table>
      )}
    </main>
  );
}

const Space = ({ rows }: { readonly rows: number }) =>
  rows <= 0 ? null : (
    <tr aria-hidden="true" style={{ height: `${rows * ROW_PX}px` }}>
      <td colSpan={8} />
    </tr>
  );

function Row({ row, index, isOne }: { readonly row: MachineRow; readonly index: number; readonly isOne: boolean }) {
  const { process, label, state, tone, since, detail, peer, roundTripMs, streams, machine, asked } = row;
  return (
    <tr aria-rowindex={index + 2}>
      <th scope="row">
        <a href={placeOf('m', process, label)}>
          <Foreign text={label} />
        </a>
        {isOne ? null : (
          <span class="aside">
            {' '}
            <Foreign text={process} />
          </span>
        )}
        {asked > 0 ? <Badge tone="doubtful">{asked} asked</Badge> : null}
      </th>
      <td>
        <Badge tone={tone}>{state}</Badge> <span class="aside">{formatAge(msSince(since))}</span>
        {detail === null ? null : (
          <span class="aside wide">
            {' '}
            <Foreign text={detail} most={300} />
          </span>
        )}
      </td>
      <td class="wide">{peer === null ? '' : <Foreign text={peer} />}</td>
      <td class="number wide">{roundTripMs === null ? '' : formatDuration(roundTripMs)}</td>
      <td class="number wide">{streams}</td>
      <td class="wide">{machine === null ? '' : formatLoad(machine)}</td>
      <td class="number">{formatRate(row.sendRate + row.receiveRate)}</td>
      <td class="wide">
        <Spark values={row.recent} />
      </td>
    </tr>
  );
}

/** The load of the last five minutes. */
function formatLoad({ load, processors, memory }: NonNullable<MachineRow['machine']>): string {
  const used = memory.totalBytes - memory.availableBytes;
  return `${(load[1] ?? 0).toFixed(1)} of ${processors}, ${formatBytes(used)} of ${formatBytes(memory.totalBytes)}`;
}
