/** Runs the command `storage-emulator` alone, as a process. */
import yargs from 'yargs';
import { storageEmulatorCommand } from '../../cli/commands/storage-emulator.js';

await yargs(process.argv.slice(2)).command(storageEmulatorCommand).demandCommand().strict().parseAsync();
