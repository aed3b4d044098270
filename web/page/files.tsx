/** The files of a machine whose peer shares them: folders, downloads, and uploads by a drop. */
import { useContext, useEffect, useState } from 'preact/hooks';
import { escapeText } from '../../lib/util/escape.js';
import { formatBytes, formatMoment } from './formats.js';
import { Around, placeOf, useAction } from './hooks.js';
import { Act, Foreign, NO_SESSION, Section, Table } from './parts.js';
import { act, getJson, messageOf, processUrl, putFile } from './requests.js';

/** What is used of an entry of `GET /v1/folders`. */
interface Entry {
  readonly name: string;
  readonly kind: 'file' | 'folder' | 'link' | 'other';
  readonly size: number;
  readonly modifiedAt: string;
}

interface FilesOf {
  readonly process: string;
  readonly label: string;
}

/** The folder in which the service begins. */
const START = '.';

/** Entries beyond these are not shown. */
const MOST_SHOWN = 1000;

export function Files({
  process,
  label,
  path = START,
  isShared,
  hasSession,
}: FilesOf & { readonly path: string | undefined; readonly isShared: boolean; readonly hasSession: boolean }) {
  const { isReadOnly, tell } = useContext(Around);
  const [entries, setEntries] = useState<readonly Entry[] | null>(null);
  const [round, setRound] = useState(0);
  const again = (): void => setRound((count) => count + 1);
  const look = (signal?: AbortSignal): Promise<Entry[]> =>
    getJson<Entry[]>(processUrl(process, 'folders', { channel: label, path }), signal);
  useEffect(() => {
    if (!isShared || isReadOnly) return;
    const ending = new AbortController();
    setEntries(null);
    look(ending.signal).then(
      (found) => setEntries(found.sort(foldersFirst)),
      (error: unknown) => ending.signal.aborted || tell(messageOf(error), true),
    );
    return () => ending.abort();
  }, [process, label, path, isShared, isReadOnly, round]);
  if (!isShared || isReadOnly) {
    const why = isReadOnly
      ? 'Files are not shown with --read-only.'
      : !hasSession
        ? NO_SESSION
        : 'The peer shares no files: it is started without --allow-copy.';
    return (
      <Section title="Files">
        <p class="aside">{why}</p>
      </Section>
    );
  }
  const placeAt = (target: string): string => placeOf('m', process, label, 'files', target);
  const below = (name: string): string => (path === START ? name : `${path}/${name}`);
  return (
    <Section title="Files">
      <Crumbs path={path} placeAt={placeAt} />
      <Upload
        urlOf={(name) => processUrl(process, 'files', { channel: label, path: below(name) })}
        look={look}
        again={again}
      />
      {entries === null ? null : entries.length === 0 ? <p class="aside">The folder is empty.</p> : null}
      <Table
        label="Files"
        rows={(entries ?? []).slice(0, MOST_SHOWN)}
        keyOf={({ name }) => name}
        columns={[
          {
            title: 'Name',
            cell: ({ name, kind }) =>
              kind === 'folder' ? (
                <a href={placeAt(below(name))}>
                  <Foreign text={`${name}/`} />
                </a>
              ) : kind === 'file' ? (
                <a href={processUrl(process, 'files', { channel: label, path: below(name) })} download={name}>
                  <Foreign text={name} />
                </a>
              ) : (
                <Foreign text={`${name} (${kind})`} />
              ),
          },
          { title: 'Size', cell: ({ size, kind }) => (kind === 'file' ? formatBytes(size) : ''), isNumber: true },
          {
            title: 'Modified',
            cell: ({ modifiedAt }) => formatMoment(modifiedAt),
            isWide: true,
          },
          {
            title: '',
            cell: ({ name }) => (
              <Act
                text="Remove"
                label={`Remove ${name}`}
                confirm="Remove it"
                work={async () => {
                  await act(process, 'DELETE', 'files', undefined, { channel: label, path: below(name) });
                  again();
                  return `${name} was removed`;
                }}
              />
            ),
          },
        ]}
      />
      {(entries?.length ?? 0) > MOST_SHOWN ? (
        <p class="aside">
          The first {MOST_SHOWN} of {entries?.length} are shown.
        </p>
      ) : null}
    </Section>
  );
}

const foldersFirst = (a: Entry, b: Entry): number =>
  Number(b.kind === 'folder') - Number(a.kind === 'folder') || COLLATOR.compare(a.name, b.name);

const COLLATOR = new Intl.Collator('en', { numeric: true });

function Crumbs({ path, placeAt }: { readonly path: string; readonly placeAt: (path: string) => string }) {
  const names = path.split('/').filter((name) => name !== '' && name !== START);
  return (
    <nav aria-label="Folders" class="crumbs">
      <a href={placeAt(START)}>start</a>
      {names.map((name, index) => (
        <a key={index} href={placeAt(names.slice(0, index + 1).join('/'))}>
          <Foreign text={`${name}/`} />
        </a>
      ))}
    </nav>
  );
}

function Upload({
  urlOf,
  look,
  again,
}: {
  readonly urlOf: (name: string) => string;
  readonly look: () => Promise<readonly Entry[]>;
  readonly again: () => void;
}) {
  const [isBusy, run] = useAction();
  const [progress, setProgress] = useState('');
  const [isOver, setOver] = useState(false);
  const upload = (list: FileList | null): void => {
    const chosen = [...(list ?? [])];
    if (chosen.length === 0 || isBusy) return;
    run(async () => {
      // Others may have put something there since it was shown.
      const there = new Set((await look()).map(({ name }) => name));
      const files = chosen.filter(
        ({ name }) => !there.has(name) || confirm(`${escapeText(name)} is there already. Replace it?`),
      );
      if (files.length === 0) return null;
      try {
        for (const [index, file] of files.entries())
          await putFile(urlOf(file.name), file, (bytes) =>
            setProgress(`${escapeText(file.name)}: ${formatBytes(bytes)} of ${formatBytes(file.size)}`),
          ).catch((error: unknown) => {
            const left = files.slice(index + 1).map(({ name }) => name);
            throw left.length === 0 ? error : new Error(`${messageOf(error)}; not sent: ${left.join(', ')}`);
          });
      } finally {
        setProgress('');
        again();
      }
      return files.length === 1 ? `${files[0]?.name ?? ''} was uploaded` : `${files.length} files were uploaded`;
    });
  };
  return (
    <label
      class={`drop${isOver ? ' over' : ''}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        upload(event.dataTransfer?.files ?? null);
      }}
    >
      {isBusy ? `Uploading ${progress} …` : 'Drop files here, or choose them: '}
      <input
        type="file"
        multiple
        disabled={isBusy}
        onChange={({ currentTarget }) => {
          upload(currentTarget.files);
          // The same file may be chosen again, after a failure.
          currentTarget.value = '';
        }}
      />
    </label>
  );
}
