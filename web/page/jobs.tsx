/** The jobs of a machine with their output as it comes, and terminals, which are jobs. */
import { useContext, useEffect, useRef, useState } from 'preact/hooks';
import type { JobLine, JobOfChannel } from '../../lib/status/types.js';
import { formatBytes, formatMoment } from './formats.js';
import { Around, placeOf, useAction } from './hooks.js';
import { Act, Badge, Foreign, NO_SESSION, Section, Table } from './parts.js';
import { act, messageOf, processUrl, readLines } from './requests.js';
import { Terminal } from './terminal.js';

interface JobsOf {
  readonly process: string;
  readonly label: string;
}

export function Jobs({
  process,
  label,
  isAllowed,
  hasSession,
  jobs,
  shown,
  again,
}: JobsOf & {
  /** Whether the peer runs commands for this side. */
  readonly isAllowed: boolean;
  readonly hasSession: boolean;
  /** Null: not yet known; a text: why. */
  readonly jobs: readonly JobOfChannel[] | string | null;
  /** The id of the job whose output is shown. */
  readonly shown: string | undefined;
  readonly again: () => void;
}) {
  const { isReadOnly } = useContext(Around);
  // A job stays on the screen while there is no session, or no answer.
  const last = useRef<JobOfChannel>(undefined);
  const known = typeof jobs === 'string' ? null : jobs;
  const job = (known ?? (last.current === undefined ? [] : [last.current])).find(({ id }) => id === shown);
  last.current = job;
  const open = (id: string): string => placeOf('m', process, label, 'jobs', id);
  return (
    <>
      {known !== null && job === undefined && shown !== undefined ? (
        <p class="aside">The peer no longer has job {shown}.</p>
      ) : null}
      {job === undefined || isReadOnly ? null : (
        <Section title={job.terminal ? 'Terminal' : 'Output'}>
          <p class="aside">
            <Foreign text={nameOf(job)} most={300} />
          </p>
          {job.terminal ? (
            <Terminal key={job.id} process={process} label={label} job={job} />
          ) : (
            <Output key={job.id} process={process} label={label} id={job.id} />
          )}
        </Section>
      )}
      {known === null ? (
        <Why isAllowed={isAllowed} hasSession={hasSession} jobs={jobs} />
      ) : (
        <>
          {isReadOnly ? null : <Start process={process} label={label} open={open} again={again} />}
          <Section title="Jobs" count={known.length} empty="None runs, and none has ended in the last hour.">
            <Table
              label="Jobs"
              rows={known}
              isSteady
              keyOf={({ id }) => id}
              columns={[
                {
                  title: 'Command',
                  cell: (one) =>
                    isReadOnly ? (
                      <Foreign text={nameOf(one)} />
                    ) : (
                      <a href={open(one.id)} aria-current={one.id === shown ? 'true' : undefined}>
                        <Foreign text={nameOf(one)} />
                      </a>
                    ),
                },
                { title: 'Tag', cell: ({ tag }) => <Foreign text={tag ?? ''} />, isWide: true },
                { title: 'User', cell: ({ user }) => <Foreign text={user ?? ''} />, isWide: true },
                { title: 'Started', cell: ({ startedAt }) => formatMoment(startedAt), isWide: true },
                { title: 'State', cell: describeState },
                { title: 'Output', cell: ({ bytes }) => formatBytes(bytes), isNumber: true },
                {
                  title: '',
                  cell: ({ id, endedAt }) =>
                    isReadOnly || endedAt !== null ? null : (
                      <Act
                        text="End"
                        label={`End job ${id}`}
                        confirm="End it"
                        work={async () => {
                          await act(process, 'DELETE', `jobs/${id}`, undefined, { channel: label });
                          again();
                          return `job ${id} has ended`;
                        }}
                      />
                    ),
                },
              ]}
            />
          </Section>
        </>
      )}
    </>
  );
}

/** Why there are no jobs to show. */
function Why({ isAllowed, hasSession, jobs }: Pick<Parameters<typeof Jobs>[0], 'isAllowed' | 'hasSession' | 'jobs'>) {
  if (isAllowed && jobs === null) return null;
  return (
    <Section title="Jobs and terminals">
      <p class="aside">
        {typeof jobs === 'string' ? (
          <Foreign text={jobs} most={500} />
        ) : hasSession ? (
          'The peer runs no commands for this side: it is started without --allow-exec.'
        ) : (
          NO_SESSION
        )}
      </p>
    </Section>
  );
}

const nameOf = ({ argv, terminal }: JobOfChannel): string =>
  (argv.length === 0 ? 'login shell' : argv.join(' ')) + (terminal ? ' (terminal)' : '');

function describeState({ endedAt, status, signal, timedOut }: JobOfChannel) {
  if (endedAt === null) return <Badge tone="good">runs</Badge>;
  const how = timedOut ? 'timed out' : (signal ?? `exit ${status ?? '?'}`);
  return <Badge tone={status === 0 ? 'good' : 'doubtful'}>{how}</Badge>;
}

/** Starts a terminal, or a command. */
function Start({
  process,
  label,
  open,
  again,
}: JobsOf & { readonly open: (id: string) => string; readonly again: () => void }) {
  const [command, setCommand] = useState('');
  const [isBusy, run] = useAction();
  const start = (body: object): void =>
    run(async () => {
      const { id } = await act<{ id: string }>(process, 'POST', 'jobs', { channel: label, tag: 'web', ...body });
      again();
      location.hash = open(id);
      return null;
    });
  return (
    <form
      class="bar"
      onSubmit={(event) => {
        event.preventDefault();
        start({ argv: ['sh', '-c', command] });
        setCommand('');
      }}
    >
      <button
        type="button"
        disabled={isBusy}
        onClick={() => start({ argv: [], terminal: { columns: 80, rows: 24, term: 'xterm-256color' } })}
      >
        New terminal
      </button>
      <input
        aria-label="Command for a shell"
        placeholder="a command"
        required
        value={command}
        onInput={({ currentTarget }) => setCommand(currentTarget.value)}
      />
      <button type="submit" disabled={isBusy}>
        Run as a job
      </button>
    </form>
  );
}

/** How much of an output is shown, in characters, and how much of it is asked for, in bytes. */
const SHOWN_LENGTH = 200_000;

function Output({ process, label, id }: JobsOf & { readonly id: string }) {
  const [text, setText] = useState('');
  const [end, setEnd] = useState('');
  const box = useRef<HTMLPreElement>(null);
  useEffect(() => {
    const ending = new AbortController();
    void read(ending.signal);
    return () => ending.abort();
    async function read(signal: AbortSignal): Promise<void> {
      let from: { tail: number } | { from: number } = { tail: SHOWN_LENGTH };
      for (;;) {
        try {
          const url = processUrl(process, `jobs/${id}/output`, { channel: label, ...from });
          for await (const { output, droppedBytes, end: result, error, next } of readLines<JobLine>(url, signal)) {
            if (output !== undefined) setText((before) => (before + plain(output)).slice(-SHOWN_LENGTH));
            if (droppedBytes !== undefined)
              setText((before) => `${before}\n[${formatBytes(droppedBytes)} are no longer kept]\n`);
            if (next !== undefined) from = { from: next };
            if (result != null) {
              setEnd(result.signal ?? `exit ${result.status ?? '?'}`);
              return;
            }
            if (error != null) setEnd(error.message);
          }
        } catch (error) {
          if (signal.aborted) return;
          setEnd(messageOf(error));
        }
        await new Promise((resolve) => setTimeout(resolve, 1000));
        if (signal.aborted) return;
      }
    }
  }, [process, label, id]);
  useEffect(() => {
    const place = box.current;
    // Follows the end, unless somebody has scrolled up.
    if (place !== null && place.scrollHeight - place.scrollTop - place.clientHeight < 200)
      place.scrollTop = place.scrollHeight;
  }, [text]);
  return (
    <>
      <pre ref={box} class="output" role="log" tabIndex={0} aria-label="Output">
        {text}
      </pre>
      {end === '' ? null : (
        <p class="aside">
          <Foreign text={end} most={500} />
        </p>
      )}
    </>
  );
}

/** Without the sequences for a terminal. */
const plain = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it removes
  text.replace(/\x1b(?:\[[\d;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])|[\x00-\x08\x0b-\x1f\x7f]/g, '');
