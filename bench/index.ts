/**
 * `npm run bench`: vproxy beside two plain relays and the socket alone, on the same work in the same run. Rounds are
 * interleaved, so that a machine that becomes slower does so for all. `--rounds N` (5), `--megabytes N` (400).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Program, runProgram, startProgram } from './load/program.js';
import { formatSummary, formatTable, summarize } from './table.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, megabytes: { type: 'string', default: '400' } },
});
const rounds = Number(values.rounds);
const bytes = Number(values.megabytes) * 1e6;

const WORK = [
  { name: 'up, 1 stream, MB/s', mode: 'up', streams: 1, key: 'rate' },
  { name: 'up, 8 streams, MB/s', mode: 'up', streams: 8, key: 'rate' },
  { name: 'down, 1 stream, MB/s', mode: 'down', streams: 1, key: 'rate' },
  { name: 'down, 8 streams, MB/s', mode: 'down', streams: 8, key: 'rate' },
  { name: 'echo of 1 byte, p50, µs', mode: 'echo', streams: 1, key: 'p50' },
  { name: 'echo of 1 byte, p99, µs', mode: 'echo', streams: 1, key: 'p99' },
] as const;

const folder = mkdtempSync(join(tmpdir(), 'vproxy-bench-'));
const programs: Program[] = [];

async function start(script: string, args: readonly string[], line?: RegExp): Promise<Program> {
  const program = await startProgram(script, args, line);
  programs.push(program);
  return program;
}

/** Two processes of vproxy on a unix socket; where to connect. */
async function startVproxy(name: string, options: string, target: string): Promise<string> {
  const path = join(folder, `${name}.sock`);
  const near = await start(
    'cli/vproxy.js',
    ['-c', `unix-listen:${path}${options}`, '-o', 'load:127.0.0.1:0'],
    /listening on 127\.0\.0\.1:/,
  );
  await start('cli/vproxy.js', ['-c', `unix-connect:${path}${options}`, '-i', `load:${target}`], /session with/);
  return /127\.0\.0\.1:(\d+)/.exec(near.firstLine)?.[1] ?? '';
}

/** Two plain relays with a unix socket between them; where to connect. */
async function startRelays(target: string): Promise<string> {
  const path = join(folder, 'relay.sock');
  await start('bench/peers/relay.js', [path, target]);
  return (await start('bench/peers/relay.js', ['0', path])).firstLine;
}

try {
  const target = (await start('bench/load/target.js', [])).firstLine;
  const contenders = [
    { name: 'vproxy', address: await startVproxy('plain', ',integrity=off', target) },
    { name: 'vproxy, integrity on', address: await startVproxy('checked', '', target) },
    { name: 'two plain relays', address: await startRelays(target) },
    { name: 'the socket alone', address: target },
  ];
  const figures = new Map<string, number[]>();
  for (let round = 0; round < rounds; round += 1) {
    for (const { mode, streams } of WORK.filter(
      (work, index) => WORK.findIndex(({ mode }) => mode === work.mode) === index || work.streams > 1,
    )) {
      for (const { name, address } of contenders) {
        const amount = mode === 'echo' ? 2000 : bytes / streams;
        const result = await runProgram('bench/load/client.js', [address, mode, `${streams}`, `${amount}`]);
        for (const [key, figure] of Object.entries(result)) {
          const id = `${name} ${mode} ${streams} ${key}`;
          figures.set(id, [...(figures.get(id) ?? []), figure]);
        }
      }
    }
  }
  const rows = WORK.map(({ name, mode, streams, key }) => [
    name,
    ...contenders.map((contender) =>
      formatSummary(summarize(figures.get(`${contender.name} ${mode} ${streams} ${key}`) ?? [])),
    ),
  ]);
  console.log(formatTable([['', ...contenders.map(({ name }) => name)], ...rows]));
  console.log(`\nMedians (smallest–largest) of ${rounds} rounds.`);
} finally {
  for (const program of programs.reverse()) await program.stop();
  rmSync(folder, { recursive: true, force: true });
}
