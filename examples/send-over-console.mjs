#!/usr/bin/env node
// Sends a file into a guest over its console, where there is nothing else: a shell has to be logged in there, with stty, head,
// base64 and sha256sum. Run with --help.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const USAGE = `usage: send-over-console.mjs FILE SOCKET PATH
Sends FILE to PATH in the guest whose serial console is at SOCKET, a unix socket. Log in at the console first, then
disconnect from it: one program at a time. The file is complete, with the right checksum, or absent.
Status: 0; 1 with one line that says what went wrong; 64 for wrong arguments.`;

/**
 * Bytes of base64 that one head(1) of the guest reads. The next ones are sent when it has ended: busybox reads ahead, and a
 * terminal of Linux that nobody reads holds 64 KiB.
 */
const CHUNK = 32_768;

/** How long the guest may be silent, in milliseconds. */
const SILENCE_MS = 60_000;
const SHELL_MS = 15_000;

const words = process.argv.slice(2);
if (words[0] === '--help' || words[0] === '-h') {
  console.log(USAGE);
  process.exit(0);
}
if (words.length !== 3) {
  console.error(USAGE);
  process.exit(64);
}
const [file, path, target] = words;

/** Ends the process with the first error; never resolves. */
function fail(message) {
  if (process.exitCode === undefined) {
    console.error(`send-over-console: ${message}`);
    process.exitCode = 1;
    // Ends what the shell runs, and gives it its terminal back.
    if (socket === undefined || socket.connecting) process.exit();
    socket.end('\x03\nstty sane\n', () => process.exit());
  }
  return new Promise(() => {});
}

let socket;
/** What the console has shown and nobody has waited for yet. */
let shown = '';
let look = () => {};

/** Resolves with the match as soon as the console shows it. */
function see(pattern, what, timeoutMs) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => fail(`${path}: ${what} within ${timeoutMs / 1000} s`), timeoutMs);
    look = () => {
      const match = pattern.exec(shown);
      if (match === null) return;
      clearTimeout(timer);
      look = () => {};
      shown = shown.slice(match.index + match[0].length);
      resolve(match);
    };
    look();
  });
}

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

let bytes;
try {
  bytes = readFileSync(file);
} catch (error) {
  await fail(error.message);
}
socket = connect(path);
socket.setEncoding('latin1');
socket.on('data', (text) => {
  shown = (shown + text).slice(-4096);
  look();
});
socket.on('error', (error) => fail(`${path}: ${error.message}`));
socket.on('end', () => fail(`${path}: the console has closed`));

// What the shell prints differs from the echo of what it is told.
const partial = quote(`${target}.part`);
const tools = 'for c in stty head base64 sha256sum; do command -v $c > /dev/null || echo "$c: not found"; done';
socket.write(`\x15\necho "ready-$((6*7))$({ ${tools}; : > ${partial}; } 2>&1 | head -n 1).$((6*7))"\n`);
const silence = 'no shell has answered (log in at the console first, then disconnect from it)';
const [, wrong] = await see(/ready-42(.*?)\.42/s, silence, SHELL_MS);
if (wrong !== '') await fail(`in the guest: ${wrong}`);

const text = bytes.toString('base64');
const count = Math.ceil(text.length / CHUNK);
const heads = `i=1; while [ $i -le ${count} ]; do n=${CHUNK}; [ $i -lt ${count} ] || n=${text.length - (count - 1) * CHUNK}`;
const loop = `{ ${heads}; head -c $n || exit; printf '<%s>' $i >&2; i=$((i+1)); done; } | base64 -d > ${partial}`;
const check = `sum=$(sha256sum < ${partial}); echo "sum-$((6*7)) $sum"`;
socket.write(
  `stty -icanon -echo -ixon -icrnl min 1 time 0; printf 'go-%s\\n' $((6*7)); ${loop}; stty sane; ${check}\n`,
);
await see(/go-42/, 'the shell did not begin', SHELL_MS);
const began = performance.now();
for (let part = 1; part <= count; part += 1) {
  socket.write(text.slice((part - 1) * CHUNK, part * CHUNK));
  await see(new RegExp(`<${part}>`), `the guest has not taken part ${part} of ${count}`, SILENCE_MS);
  if (process.stderr.isTTY) process.stderr.write(`\r${Math.round((100 * part) / count)} % of ${bytes.length} bytes `);
}
if (process.stderr.isTTY) process.stderr.write('\n');
const sum = createHash('sha256').update(bytes).digest('hex');
const [, found] = await see(/sum-42 ([0-9a-f]{64})/, 'no checksum came', SILENCE_MS);
if (found !== sum) await fail(`${target}: the checksum is ${found}, but ${file} has ${sum}`);
socket.write(`mv ${partial} ${quote(target)} && echo moved-$((6*7))\n`);
await see(/moved-42/, `could not rename the file to ${target}`, SHELL_MS);
const seconds = (performance.now() - began) / 1000;
console.log(
  `${target}: ${bytes.length} bytes in ${seconds.toFixed(1)} s, ${Math.round(bytes.length / 1000 / seconds)} kB/s`,
);
socket.removeAllListeners('end').end();
