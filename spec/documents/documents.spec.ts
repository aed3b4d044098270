/** Every command of the documents is run by a spec, or has a reason why not; and the parser accepts each. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';
import { checkCommandLine, isCommandName } from './check-command-line.js';
import { commandLinesOf, hasPlaceholder, vproxyCallsIn } from './commands-of.js';
import { listDocuments, readDocument } from './document-list.js';
import { COMMAND_LANGUAGES, parseDocument } from './parse-document.js';
import { SCENES } from './scenes/index.js';
import { scenesOf } from './scenes-of.js';
import { shellWords } from './shell-words.js';

const documents = listDocuments().map((path) => parseDocument(path, readDocument(path)));

for (const document of documents) {
  const { path, blocks } = document;

  test(`every block of commands in ${path} says who runs it, or why nobody does`, (t) => {
    t.deepEqual(document.complaints, []);
    t.deepEqual(
      document.indentedLines.map((line) => `${path}:${line}: an indented block; a fence says what it is`),
      [],
    );
    for (const scene of scenesOf(document)) t.true(scene in SCENES, `${path}: there is no scene "${scene}"`);
  });

  test(`what other specs run of ${path} is in them`, (t) => {
    for (const block of blocks) {
      const reason = block.marker?.kind === 'not-run' ? block.marker.reason : '';
      for (const [spec] of reason.matchAll(/\bspec\/\S+\.ts\b/g)) {
        t.true(existsSync(join(PROJECT_ROOT, spec)), `${path}:${block.line}: there is no ${spec}`);
      }
      if (block.marker?.kind !== 'run-elsewhere') continue;
      const file = join(PROJECT_ROOT, block.marker.spec);
      t.true(existsSync(file), `${path}:${block.line}: there is no ${block.marker.spec}`);
      const spec = existsSync(file) ? readFileSync(file, 'utf8') : '';
      // Literally, taken from the document, or composed of its words.
      const isTaken = [path, basename(path)].some((name) => spec.includes(`'${name}'`));
      for (const { line, text } of commandLinesOf(block)) {
        t.true(isTaken || isIn(spec, text), `${path}:${line}: not in ${block.marker.spec}: ${text}`);
      }
    }
    t.pass();
  });

  test(`the calls of vproxy that ${path} shows are valid`, async (t) => {
    for (const block of blocks) {
      if (!COMMAND_LANGUAGES.includes(block.language)) continue;
      for (const { line, text } of commandLinesOf(block)) {
        for (const call of vproxyCallsIn(text)) if (!hasPlaceholder(call)) await checkCall(`${path}:${line}`, call);
      }
    }
    for (const { line, text } of document.inline) {
      const [call] = text.startsWith('vproxy ') ? vproxyCallsIn(text) : [];
      if (call === undefined || hasPlaceholder(call) || isCommandName(call.split(' '))) continue;
      await checkCall(`${path}:${line}`, call);
    }
    t.pass();

    async function checkCall(where: string, call: string): Promise<void> {
      await t.notThrowsAsync(checkCommandLine(shellWords(call)), `${where}: vproxy ${call}`);
    }
  });
}

/** Whether a spec has a command line, or the words of the call of vproxy in it, one after the other, whatever is between them. */
function isIn(spec: string, text: string): boolean {
  const squeeze = (code: string) => code.replace(/['"`,[\]\\\s]/g, '');
  const calls = vproxyCallsIn(text).map((call) => squeeze(shellWords(call).join('')));
  // A call of one short word would be found anywhere.
  return [squeeze(text), ...calls.filter((words) => words.length > 12)].some((words) => squeeze(spec).includes(words));
}

test('every scene is that of a document', (t) => {
  const used = new Set(documents.flatMap(scenesOf));
  t.deepEqual(
    Object.keys(SCENES).filter((scene) => !used.has(scene)),
    [],
  );
});
