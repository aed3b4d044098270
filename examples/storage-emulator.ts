/**
 * A storage emulator: answers the calls of virtual machines to the utility of their storage controller.
 *
 *     node dist/examples/storage-emulator.js [--listen HOST:PORT] [--dial HOST:PORT]
 *
 * It listens where vproxy dials (`-i storage:HOST:PORT`), or dials where vproxy listens (`-o storage:HOST:PORT`).
 */
import { parseArgs } from 'node:util';
import { createStorageEmulator, type StorageHandler } from 'vproxy';

/** The bays of one controller for each machine; a removed drive stays removed. */
const drives = new Map<string, Set<string>>();

function drivesOf(machine: string): Set<string> {
  const found = drives.get(machine) ?? new Set(['252:0', '252:1', '252:2']);
  drives.set(machine, found);
  return found;
}

const answer: StorageHandler = ({ argv, vm }) => {
  // The first word is the path that the utility was called by; `vm` is the channel that the call came from.
  const [, where = '', verb = ''] = argv;
  const bays = drivesOf(vm ?? 'default');
  if (where === '/c0' && verb === 'show') {
    const lines = [...bays].map((bay) => `${bay}  Onln  1.818 TB  SAS HDD`);
    return { stdout: ['Controller = 0', 'Status = Success', '', ...lines, ''].join('\n') };
  }
  const bay = /^\/c0\/e(\d+)\/s(\d+)$/.exec(where);
  if (bay !== null && verb === 'spindown') {
    const isThere = bays.delete(`${bay[1]}:${bay[2]}`);
    return isThere ? { stdout: 'Status = Success\n' } : { stderr: `${where}: no such drive\n`, status: 1 };
  }
  return { stderr: `not emulated: ${argv.slice(1).join(' ')}\n`, status: 2 };
};

const { values } = parseArgs({ options: { listen: { type: 'string' }, dial: { type: 'string' } } });

function parseAddress(text: string): { host: string; port: number } {
  const [, host = '127.0.0.1', port = ''] = /^(?:(.*):)?(\d+)$/.exec(text) ?? [];
  return { host, port: Number(port) };
}

const emulator = createStorageEmulator(answer);
emulator.on('request', ({ argv, vm }) => console.log(`${vm ?? 'a machine'} calls ${argv.join(' ')}`));
emulator.on('connected', () => console.log('connected'));
emulator.on('failure', (error) => console.error(`${error.code}: ${error.message}`));

if (values.dial !== undefined) emulator.dial(parseAddress(values.dial));
if (values.listen !== undefined || values.dial === undefined) {
  const address = await emulator.listen(parseAddress(values.listen ?? '127.0.0.1:50000'));
  console.log(`listening on ${'path' in address ? address.path : `${address.host}:${address.port}`}`);
}
process.once('SIGINT', () => void emulator.close().then(() => process.exit()));
