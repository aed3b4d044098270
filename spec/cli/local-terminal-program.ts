/**
 * A program that takes its terminal, and ends as its argument says: `end`, `throw`, `exit`, or by a signal. It prints `started`,
 * each key received in hexadecimal, and each new size; the key `q` makes it do what its argument says.
 */
import { writeSync } from 'node:fs';
import { LocalTerminal } from '../../cli/ui/local-terminal.js';

const say = (text: string) => writeSync(1, `${text}\r\n`);

const terminal = new LocalTerminal();
terminal.onResize(({ columns, rows }) => say(`size ${columns}x${rows}`));
process.stdin.on('data', (keys: Buffer) => {
  if (keys.toString() !== 'q') {
    say(`keys ${keys.toString('hex')}`);
    return;
  }
  switch (process.argv[2]) {
    case 'throw':
      throw new Error('a defect');
    case 'exit':
      process.exit(3);
      break;
    default:
      terminal.stop();
      terminal.stop();
      process.stdin.pause();
  }
});
terminal.start();
const { columns, rows, term } = terminal.request;
say(`started ${process.pid} ${columns}x${rows} ${term}`);
