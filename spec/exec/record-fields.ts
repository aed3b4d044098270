/** The fields of the records in JSON: the document, both runners, the callers in TypeScript and in Python have the same. */
import test from 'ava';
import { projectText } from '../helpers/files.js';

/** A text from one mark to another, and the forms in which it names fields. */
type Place = readonly [file: string, from: string, to: string, names: RegExp];

const PROTOCOL = 'docs/protocol.md';
const MESSAGES = 'lib/services/exec/exec-messages.ts';
const JOB_MESSAGES = 'lib/services/exec/jobs/job-messages.ts';

/** What reads fields in Go. */
const READ_IN_GO = /(?:fields\[|plainText\(|plain\(|part\(|has\(|boolean\(|delay\(|ranged\()"(\w+)"/g;
const WRITTEN_IN_GO = /"(\w+)":/g;

/** By record: its fields, and what must have them all. */
const RECORDS: Readonly<Record<string, readonly [fields: readonly string[], ...(readonly Place[])[]]>> = {
  START: [
    [
      ...['argv', 'columns', 'cwd', 'detach', 'env', 'hasInput', 'keepBytes', 'killAfterMs', 'rows', 'tag', 'term'],
      ...['terminal', 'timeoutMs', 'unique', 'user', 'wait'],
    ],
    [[PROTOCOL, '| START | caller | JSON, ', ' The first record', /`(\w+)`/g]],
    [
      [
        MESSAGES,
        '/** Validates the fields of a request',
        '/** Decodes an EXIT',
        /\{ (argv) \}|optional\(object, '(\w+)'/g,
      ],
      [MESSAGES, 'const requireTerminal', 'export const requireSize', /\$\{field\}\.(\w+)/g],
    ],
    [['guest/command.go', 'func parseExecRequest(', 'const searchPath', READ_IN_GO]],
  ],
  'ATTACH and STOP': [
    ['columns', 'from', 'id', 'input', 'killAfterMs', 'rows', 'steal', 'tail'],
    [[PROTOCOL, '| ATTACH | caller |', '| JOBS |', /`(\w+)`/g]],
    [
      [
        JOB_MESSAGES,
        'function requestOf(',
        'for (const',
        /object\['(\w+)'\]|optional\(object, '(\w+)'|'(columns|rows)'[,\]]/g,
      ],
    ],
    [
      ['guest/jobs.go', 'parseRequest(payload, firstRecords', 'e.findJob', READ_IN_GO],
      ['guest/jobs_input.go', 'func parseWriter(', '\n}', READ_IN_GO],
    ],
  ],
  JOBS: [
    [
      ...['argv', 'bytes', 'endedAt', 'hasWriter', 'id', 'keptFrom', 'pid', 'signal', 'startedAt', 'status', 'tag'],
      ...['takesInput', 'terminal', 'timedOut', 'usage', 'user'],
    ],
    [[PROTOCOL, 'a list of objects with', '; times', /`(\w+)`/g]],
    [[JOB_MESSAGES, 'const { jobs } = decode', '\n};', /^ {2}(\w+):|decodeUsage\(job\['(\w+)'\]/gm]],
    [
      ['guest/jobs.go', 'j.facts = fields{', '}\n', WRITTEN_IN_GO],
      ['guest/jobs.go', 'func (j *job) describe()', '}\n', WRITTEN_IN_GO],
    ],
  ],
  EXIT: [
    ['durationMs', 'error', 'signal', 'status', 'timedOut', 'usage'],
    [
      [PROTOCOL, '| EXIT | runner |', ' (`cpuMs`', /`(\w+)`/g],
      [PROTOCOL, 'or null) or null, `error`', ' (', /`(\w+)`/g],
    ],
    [[MESSAGES, '/** Decodes an EXIT', 'decode(payload', /(\w+)(?:,|: used| \})/g]],
    [['guest/exec.go', 'result := fields{', '}\n', WRITTEN_IN_GO]],
  ],
};

function namesIn([file, from, to, names]: Place): string[] {
  const text = projectText(file);
  const at = text.indexOf(from);
  const end = text.indexOf(to, at);
  if (at === -1 || end === -1) throw new Error(`${file}: no ${at === -1 ? from : to}`);
  return [...text.slice(at, end).matchAll(names)].map((found) => found.slice(1).join(''));
}

for (const [record, [fields, ...all]] of Object.entries(RECORDS))
  test(`the fields of ${record} are the same in the document and in both runners`, (t) => {
    for (const places of all) t.deepEqual([...new Set(places.flatMap(namesIn))].sort(), fields, places[0]?.[0] ?? '');
  });

test('Python knows all fields, and asks for nothing else', (t) => {
  const python = ['_core', '_calls'].map((name) => projectText(`python/src/vproxy/${name}.py`)).join('\n');
  const [start] = RECORDS['START'] ?? [[]];
  const known = Object.values(RECORDS).flatMap(([fields]) => fields);
  t.deepEqual(
    start.filter((name) => !python.includes(`"${name}"`)),
    [],
  );
  const command = /^def command\(.*?^def /ms.exec(python)?.[0] ?? '';
  const asked = [...command.matchAll(/asked\["(\w+)"\] =|asked: Json = \{"(\w+)".*?"(hasInput)"/g)];
  const others = asked.flatMap((found) => found.slice(1).filter(Boolean));
  t.true(others.length > 5);
  t.deepEqual(
    others.filter((name) => !known.includes(name)),
    [],
  );
});
