/** The form of what a process hands over follows from the types of its state, of which the build writes it. */
import { execFileSync } from 'node:child_process';
import test from 'ava';
import { HANDOVER_FORM } from '../../cli/upgrade/form.js';
import { PROJECT_ROOT } from '../helpers/files.js';

interface Form {
  readonly lines: readonly string[];
  /** The text of cli/upgrade/form.ts. */
  readonly text: string;
}

/** What `npm run build` writes, by the program that writes it. */
function readForm(): Form {
  const script = `import { describeDocument, formatForm } from './packaging/handover-form.mjs';
    const lines = describeDocument();
    console.log(JSON.stringify({ lines, text: formatForm(lines) }));`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: PROJECT_ROOT,
    encoding: 'utf8',
    maxBuffer: 2 ** 24,
  });
  return JSON.parse(output) as Form;
}

test('the form is that of the types that are handed over', (t) => {
  const { lines, text } = readForm();
  t.true(lines.length > 40, `only ${lines.length} types`);
  // Of a session, of one of its streams, and of a connection.
  for (const field of ['receivedChunks: number', 'smallFrames: number', 'takenBytes: number'])
    t.true(
      lines.some((line) => line.includes(field)),
      field,
    );
  t.true(text.includes(`'${HANDOVER_FORM}'`), 'what is handed over has changed: npm run build');
});
