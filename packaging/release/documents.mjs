// Writes what accompanies the programs, LICENCES and RELEASE-NOTES.md: node packaging/release/documents.mjs --output FOLDER
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const PROJECT = join(import.meta.dirname, '../..');
const read = (path) => readFileSync(join(PROJECT, path), 'utf8').trim();

/** Returns the heading and the text of a version in the change log; null without one. */
export function findChanges(version) {
  const [, ...sections] = `\n${read('CHANGELOG.md')}`.split(/^## /m);
  const section = sections.find((one) =>
    one
      .split('\n', 1)[0]
      .split(/[\s:]+/)
      .includes(version),
  );
  if (section === undefined) return null;
  const [heading] = section.split('\n', 1);
  return { heading, text: section.slice(heading.length).trim() };
}

/** The single file ends with the licences of vproxy and of the packages in it and beside it. */
function formatLicences() {
  const file = read('dist/vproxy.cjs');
  return [
    file.slice(file.lastIndexOf('\n/*\n') + 4, -'*/'.length).trim(),
    `Node.js, which is in the executables, their packages and the image:\n\n${read('dist/vproxy-linux-x64.node-licence')}`,
    read('guest/packaging/go-licence'),
  ].join('\n\n---\n\n');
}

if (process.argv[1] === import.meta.filename) {
  const { output } = parseArgs({ options: { output: { type: 'string' } } }).values;
  const { version } = JSON.parse(read('package.json'));
  writeFileSync(join(output, 'LICENCES'), `${formatLicences()}\n`);
  writeFileSync(join(output, 'RELEASE-NOTES.md'), `# vproxy ${version}\n\n${findChanges(version).text}\n`);
}
