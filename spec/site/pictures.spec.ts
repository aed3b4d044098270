/** The pictures of terminals are what the programs show today: they are recorded again, and compared. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { drawScreen, wordsOfScreen } from '../../site/pictures/screen.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

testWith(
  'tmux',
  'curl',
  'busybox',
)('the pictures of the documents have the words that are recorded now', async (t) => {
  t.timeout(240_000);
  const folder = temporaryFolder(t);
  await promisify(execFile)(process.execPath, [join(PROJECT_ROOT, 'dist/site/pictures/index.js'), folder]);
  for (const name of ['session.svg', 'top.svg']) {
    const recorded = wordsOfScreen(readFileSync(join(folder, name), 'utf8'));
    t.true(recorded.length > 10, `${name}: ${recorded.join('\n')}`);
    const shown = wordsOfScreen(readFileSync(join(PROJECT_ROOT, 'docs/img', name), 'utf8'));
    t.deepEqual(recorded, shown, `${name} is out of date: npm run pictures`);
  }
});

const draw = (...lines: readonly string[]): string => drawScreen({ title: 'a <title>', columns: 20, lines });

test('text is at its columns, and is escaped', (t) => {
  const svg = draw('a & b   <c>');
  t.regex(svg, /<text x="16" y="30" textLength="42" [^>]*>a &amp; b<\/text>/);
  t.regex(svg, /<text x="83\.2" y="30" textLength="25\.2" [^>]*>&lt;c&gt;<\/text>/);
  t.regex(svg, /<title id="title">a &lt;title&gt;<\/title>/);
});

test('colours and styles are classes, and go on until they end, also in the next line', (t) => {
  const svg = draw('\u001b[1;32mok\u001b[22m then', 'more\u001b[39m plain \u001b[7m HEAD \u001b[0m');
  t.regex(svg, /<text class="c2 bold"[^>]*>ok<|<text class="bold c2"[^>]*>ok</);
  t.regex(svg, /<text class="c2"[^>]*>then</);
  t.regex(svg, /<text class="c2"[^>]*>more</);
  t.regex(svg, /<text x="[^"]*"[^>]*>plain</);
  t.regex(
    svg,
    /<rect class="reverse" x="108\.4" [^>]*width="50\.4"[^>]*\/><text class="reverse" x="116\.8"[^>]*>HEAD</,
  );
});

test('a light and a dark scheme are in the file', (t) => {
  t.regex(
    draw('a'),
    /text \{ fill: #1d2229 \}[^]*@media \(prefers-color-scheme: dark\) \{[^]*text \{ fill: #e3e7ec \}/,
  );
});

test('figures, bars and columns are no words of a picture', (t) => {
  t.deepEqual(wordsOfScreen(draw('sent   1.5 MB/s ▁▅█ peak 17 kB/s', 'up 3s, p99 2.1 ms')), [
    'sent 0/s peak 0/s',
    'up 0, p0 0',
  ]);
});
