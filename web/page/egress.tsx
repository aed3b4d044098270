/** The egresses of a machine, or the questions of all: what is asked, allowed and denied, and by whom it was used. */
import { useContext } from 'preact/hooks';
import type { EgressQuestion, EgressStats, EgressStatus } from '../../lib/status/types.js';
import type { MachinesView } from '../views.js';
import { Events } from './events.js';
import { formatAge, formatBytes, formatMoment, msSince } from './formats.js';
import { Around, placeOf, usePolled } from './hooks.js';
import { Act, Badge, Foreign, Section, Table } from './parts.js';
import { act, formatUrl } from './requests.js';
import { Trouble } from './trouble.js';

type Question = EgressQuestion & { readonly process: string };

/** The questions of all machines. */
export function Questions() {
  const { value: view, failure, again } = usePolled<MachinesView>(formatUrl('/api/machines', { count: 0 }));
  return (
    <main>
      <Trouble failure={failure} />
      <h1>Egress</h1>
      {view === null ? null : <Asked questions={view.questions} again={again} />}
      <p class="aside">The rules of an egress, and what it was used for, are with each machine.</p>
    </main>
  );
}

const ANSWERS = [
  ['10 minutes', true, 600],
  ['an hour', true, 3600],
  ['until reset', true, undefined],
  ['No', false, undefined],
] as const;

export function Asked({ questions, again }: { readonly questions: readonly Question[]; readonly again: () => void }) {
  const { isReadOnly } = useContext(Around);
  return (
    <Section title="Waiting for an answer" count={questions.length} empty="Nothing is asked.">
      <Table
        label="Questions"
        rows={questions}
        isSteady
        keyOf={({ process, channel, id }) => `${process}/${channel}/${id}`}
        columns={[
          { title: 'Destination', cell: ({ destination }) => <Foreign text={destination} most={300} /> },
          {
            title: 'Machine',
            cell: ({ process, channel }) => (
              <a href={placeOf('m', process, channel, 'egress')}>
                <Foreign text={channel} />
              </a>
            ),
          },
          { title: 'Egress', cell: ({ egress }) => <Foreign text={egress} />, isWide: true },
          { title: 'Waits', cell: ({ connections }) => connections, isNumber: true, isWide: true },
          { title: 'Left', cell: ({ until }) => formatAge(-msSince(until)), isNumber: true },
          {
            title: 'Allow it for',
            cell: ({ process, channel, id, destination }) =>
              isReadOnly
                ? null
                : ANSWERS.map(([text, isAllowed, forS]) => (
                    <Act
                      key={text}
                      text={text}
                      label={`${destination}: ${isAllowed ? `allow it, ${text}` : 'deny it'}`}
                      work={async () => {
                        await act(process, 'POST', 'egress/answer', {
                          id,
                          channel,
                          isAllowed,
                          ...(forS !== undefined && { forS }),
                        });
                        again();
                        return `${destination} is ${isAllowed ? `allowed, ${text}` : 'denied'}`;
                      }}
                    />
                  )),
          },
        ]}
      />
    </Section>
  );
}

interface EgressOf {
  readonly process: string;
  readonly label: string;
  readonly egresses: readonly EgressStatus[];
  readonly stats: readonly EgressStats[];
  readonly again: () => void;
}

/** The egresses of one machine. */
export function Egresses({ process, label, egresses, stats, again }: EgressOf) {
  if (egresses.length === 0) {
    return (
      <Section title="Egress">
        <p class="aside">The machine has no egress.</p>
      </Section>
    );
  }
  return (
    <>
      {egresses.map((egress) => (
        <Rules key={egress.name} process={process} label={label} egress={egress} again={again} />
      ))}
      <Section title="The last hour" count={stats.length} empty="Nothing was reached or refused.">
        <Table
          label="Destinations"
          rows={stats}
          keyOf={({ egress, destination }) => `${egress} ${destination ?? ''}`}
          columns={[
            {
              title: 'Destination',
              cell: ({ destination }) => (destination === null ? 'others' : <Foreign text={destination} most={300} />),
            },
            { title: 'Opened', cell: ({ opened }) => opened, isNumber: true },
            { title: 'Refused', cell: ({ refused }) => refused, isNumber: true },
            { title: 'Asked', cell: ({ asked }) => asked, isNumber: true, isWide: true },
            { title: 'Up', cell: ({ uploadedBytes }) => formatBytes(uploadedBytes), isNumber: true, isWide: true },
            {
              title: 'Down',
              cell: ({ downloadedBytes }) => formatBytes(downloadedBytes),
              isNumber: true,
              isWide: true,
            },
          ]}
        />
      </Section>
      <Events process={process} label={label} title="Decisions" isShown={isDecision} />
    </>
  );
}

const isDecision = (event: string): boolean => event.startsWith('egress');

function Rules({
  process,
  label,
  egress,
  again,
}: Pick<EgressOf, 'process' | 'label' | 'again'> & { readonly egress: EgressStatus }) {
  const { isReadOnly } = useContext(Around);
  const { name, rules, isBlocked, added, denied } = egress;
  const untilOf = new Map([...added, ...denied].map(({ entry, until }) => [entry, until]));
  const rows =
    rules === null
      ? []
      : [
          ...rules.deny.map((entry) => ({ entry, list: 'deny' })),
          ...rules.allow.map((entry) => ({ entry, list: 'allow' })),
        ];
  const change = (what: 'block' | 'reset') => async (): Promise<string> => {
    await act(process, 'POST', `egress/${what}`, { name, channel: label });
    again();
    return what === 'block' ? `${name} denies everything` : `${name} has its configured rules again`;
  };
  return (
    <Section title={`Egress ${name}`} count={rows.length} empty="It is not defined, so everything is refused.">
      <div class="bar">
        {isBlocked ? <Badge tone="bad">blocked</Badge> : null}
        {rules?.askS == null ? null : <Badge tone="doubtful">asks, for {rules.askS} s</Badge>}
        {isReadOnly ? null : (
          <>
            <Act
              text="Block"
              label={`Block ${name}`}
              confirm="Deny everything, and reset what is open"
              work={change('block')}
            />
            <Act text="Reset" label={`Reset ${name}`} confirm="Undo all changes" work={change('reset')} />
          </>
        )}
      </div>
      <Table
        label={`Rules of ${name}`}
        rows={rows}
        keyOf={({ entry, list }) => `${list} ${entry}`}
        columns={[
          { title: 'List', cell: ({ list }) => <Badge tone={list === 'allow' ? 'good' : 'bad'}>{list}</Badge> },
          { title: 'Entry', cell: ({ entry }) => <Foreign text={entry} most={300} /> },
          {
            title: 'Until',
            cell: ({ entry }) => (untilOf.has(entry) ? describeUntil(untilOf.get(entry) ?? null) : 'configured'),
          },
        ]}
      />
    </Section>
  );
}

const describeUntil = (until: string | null): string =>
  until === null ? 'reset' : `${formatMoment(until)} (${formatAge(-msSince(until))} left)`;
