/** What architecture.md says of imports that lint does not see. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import test from 'ava';
import ts from 'typescript';
import { PROJECT_ROOT } from '../helpers/files.js';

/** The files that a file imports, for their types or more. */
function importsOf(file: string): string[] {
  const { importedFiles } = ts.preProcessFile(readFileSync(join(PROJECT_ROOT, file), 'utf8'));
  const names = importedFiles.map(({ fileName }) => fileName).filter((name) => name.startsWith('.'));
  return names.map((name) => normalize(join(dirname(file), name)).replace(/\.js$/, '.ts'));
}

/** Without the files that import none of the others, again and again: what is left is in a circle, or leads to one. */
function circlesIn(files: readonly string[]): string[] {
  const left = new Map(files.map((file) => [file, importsOf(file)]));
  for (let before = Number.POSITIVE_INFINITY; left.size < before; ) {
    before = left.size;
    for (const [file, imports] of left) if (!imports.some((one) => left.has(one))) left.delete(file);
  }
  return [...left.keys()];
}

test('no imports of lib and cli make a circle, those of types included', (t) => {
  const files = ['lib', 'cli']
    .flatMap((folder) =>
      readdirSync(join(PROJECT_ROOT, folder), { encoding: 'utf8', recursive: true }).map((name) => join(folder, name)),
    )
    .filter((name) => name.endsWith('.ts'));
  t.true(files.length > 300);
  t.deepEqual(circlesIn(files), []);
});
