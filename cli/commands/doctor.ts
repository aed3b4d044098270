/** `vproxy doctor`: looks for common problems. */
import type { Command, CommandOptions } from '../command/command.js';
import { EXIT_OK } from '../exit.js';
import { RUN_OPTIONS } from '../run/options.js';
import { paintFor } from '../ui/color.js';
import { output, outputWidth, print, printJson } from '../ui/print.js';

const OPTIONS: CommandOptions = {
  channel: {
    short: 'c',
    value: 'CHANNEL',
    isRepeatable: true,
    describe: 'A channel, as in the command line of vproxy',
  },
  outgoing: { short: 'o', value: 'FORWARD', isRepeatable: true, describe: 'A forward that listens here' },
  incoming: { short: 'i', value: 'FORWARD', isRepeatable: true, describe: 'A forward with a target here' },
  key: { value: 'FILE', isRepeatable: true, describe: 'A key file' },
  config: { value: 'FILE', describe: 'The configuration file of a vproxy' },
  socket: {
    value: 'PATH',
    describe: 'Control socket of a running vproxy [default: $VPROXY_SOCKET, else all that are found]',
  },
  name: { value: 'NAME', describe: 'Name or PID of a running vproxy', offers: 'process' },
  timeout: { value: 'SECONDS', describe: 'Timeout of each check [default: 2]' },
  json: { describe: 'Print the findings as JSON' },
};

/** The other run options: users put `doctor` before an existing command line. Their values are checked as those of a proxy. */
const HIDDEN_OPTIONS: CommandOptions = Object.fromEntries(
  Object.entries(RUN_OPTIONS).flatMap(([name, option]) =>
    Object.hasOwn(OPTIONS, name) ? [] : [[name, { ...option, isHidden: true }]],
  ),
);

export const command: Command = {
  usage: 'doctor [-c CHANNEL]… [-o FORWARD]… [-i FORWARD]… [--key FILE]… [--config FILE] [--timeout SECONDS] [--json]',
  about:
    'Looks for common problems, given the arguments of the vproxy that does not work: devices, sockets, permissions, processes that have them open, keys, ports, denials, and the peers of running processes. Without arguments it checks the machine and the vproxy processes running on it. It disturbs nothing. Each finding is a line that says what to do. The status is 1 if a check fails.',
  examples: [
    ['vproxy doctor', 'Check this machine, and the vproxy processes running here'],
    ['vproxy doctor -c unix-connect:/run/vm1.sock -o ssh:127.0.0.1:9022', 'Check what does not work'],
  ],
  isLocal: true,
  meant: ['doctor --name LABEL', 'channels LABEL', 'doctor -c unix-connect:PATH', 'doctor -c ADDRESS'],
  options: { ...OPTIONS, ...HIDDEN_OPTIONS },
  async run(args) {
    const timeoutS = args.seconds('timeout', MIN_TIMEOUT_S, MAX_TIMEOUT_S);
    // Loads nearly everything, which --help must not wait for.
    const [{ readRequest }, { Machine }, { runDoctor }, { formatDiagnoses, formatSummary }] = await Promise.all([
      import('../doctor/request.js'),
      import('../doctor/machine.js'),
      import('../doctor/plan.js'),
      import('../doctor/diagnosis.js'),
    ]);
    const request = await readRequest(args);
    const machine = new Machine({
      controlSockets: request.socket === null ? [] : [request.socket],
      ...(timeoutS === undefined ? {} : { timeoutMs: Math.round(timeoutS * 1000) }),
    });
    const diagnoses = await runDoctor(machine, request);
    const fails = diagnoses.some(({ level }) => level === 'fail');
    if (args.has('json')) printJson({ ok: !fails, findings: diagnoses });
    else {
      const paint = paintFor(output);
      print(`${formatDiagnoses(diagnoses, paint)}${outputWidth() === null ? '' : formatSummary(diagnoses, paint)}`);
    }
    // Do not wait for abandoned checks, such as a connection.
    await new Promise((resolve) => process.stdout.write('', resolve));
    process.exit(fails ? EXIT_FAILS : EXIT_OK);
  },
};

const EXIT_FAILS = 1;

const MIN_TIMEOUT_S = 0.1;
const MAX_TIMEOUT_S = 600;
