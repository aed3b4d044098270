/** Configuration files at the real command line: `--config`, `--print-config`, `vproxy check`. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { ESTABLISHED, runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

function file(t: ExecutionContext, text: string, name = 'vproxy.toml'): string {
  const path = join(temporaryFolder(t), name);
  writeFileSync(path, text);
  return path;
}

const WRONG = `
wait = 1.5
[channels.vm1]
address = "unix-connect:/run/vm1.sock"
outgoing = ["ssh:127.0.0.1:9022", "ssh"]
outgoin = 3
[channels.vm2]
address = "tcp-listen:0.0.0.0:0"
`;

test.serial('vproxy check prints every error on a line of its own, and ends with 65', async (t) => {
  const path = file(t, WRONG);
  const { code, stdout, stderr } = await runVproxy(['check', path]);
  t.is(code, 65);
  t.is(stdout, '');
  t.deepEqual(stderr.split('\n'), [
    `${path}: wait: expected a whole number of seconds from 0 to 86400, or a time such as 500ms, 90s, 5m or 1h30m`,
    `${path}: channels.vm1.outgoin: there is no such key; did you mean outgoing?`,
    `${path}: channels.vm1.outgoing[1]: -o ssh: there is no colon behind the service; expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path`,
    `${path}: channels.vm2: channel "tcp-listen:0.0.0.0:0": listening where other machines can connect needs TLS (tls=psk or tls=cert) or --insecure; 127.0.0.1 or [::1] does not`,
    '',
  ]);
});

test.serial('vproxy check says where the syntax is wrong', async (t) => {
  const toml = file(t, 'a = 1\nb = = 2\n');
  t.deepEqual(await runVproxy(['check', toml]), {
    code: 65,
    stdout: '',
    stderr: `${toml}:2:5: it is not TOML: invalid value\n`,
  });
  const json = file(t, '{\n  "channels": {,}\n}', 'vproxy.json');
  t.deepEqual(await runVproxy(['check', json]), {
    code: 65,
    stdout: '',
    stderr: `${json}:2:16: it is not JSON: expected a key in quotes\n`,
  });
});

test.serial('vproxy check says what a file without errors would do', async (t) => {
  const path = file(
    t,
    '[channels.vm1]\naddress = "unix:///run/vm1.sock"\noutgoing = ["ssh:9022"]\nincoming = ["web:80"]\n',
  );
  t.deepEqual(await runVproxy(['check', path]), {
    code: 0,
    stdout: `${path}: ok\nvm1: unix-connect:/run/vm1.sock\n  -o ssh:127.0.0.1:9022\n  -i web:127.0.0.1:80\n`,
    stderr: '',
  });
});

for (const name of readdirSync(join(PROJECT_ROOT, 'docs/examples'))) {
  test.serial(`vproxy check takes docs/examples/${name}`, async (t) => {
    const { code, stderr } = await runVproxy(['check', join(PROJECT_ROOT, 'docs/examples', name)]);
    t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  });
}

test.serial('what cannot be read, or is too large, or has no channels, is refused in one line', async (t) => {
  const folder = temporaryFolder(t);
  const large = file(t, '#'.repeat(5_000_000));
  const latin = join(folder, 'latin.toml');
  writeFileSync(latin, Buffer.from([0x61, 0xff]));
  for (const [path, says] of [
    [join(folder, 'missing.toml'), 'it cannot be read: there is no such file or folder (ENOENT)'],
    [folder, 'it cannot be read: it is a folder (EISDIR)'],
    [large, 'it cannot be read: it has more than 4194304 bytes'],
    [latin, 'it cannot be read: it is not UTF-8'],
    [file(t, 'wait = 3'), 'channels: there are none'],
  ] as const) {
    const { code, stdout, stderr } = await runVproxy(['check', path]);
    t.is(code, 65, says);
    t.is(stdout, '');
    t.true(stderr.startsWith(`${path}: ${says}`), stderr);
    t.is(stderr.split('\n').length, 2);
  }
});

test.serial('--config with a file that is wrong ends with 65 and all of its errors', async (t) => {
  const path = file(t, WRONG);
  const { code, stdout, stderr } = await runVproxy(['--config', path]);
  t.is(code, 65);
  t.is(stdout, '');
  const lines = stderr.trimEnd().split('\n');
  t.is(lines.length, 3);
  for (const line of lines) t.true(line.startsWith(`vproxy: error: ${path}: `), line);
});

test.serial(
  '--print-config shows what is in force with file and flags, and what it shows is a configuration',
  async (t) => {
    const path = file(t, 'name = "host1"\nwait = 7\n[channels.vm1]\naddress = "unix:///run/vm1.sock"\n');
    const flags = ['-o', 'vm1/ssh:9022', '-c', 'vm2=stdio:', '--wait', '0', '--no-control'];
    const shown = await runVproxy(['--config', path, ...flags, '--print-config']);
    t.is(shown.code, 0);
    t.is(shown.stderr, '');
    t.regex(shown.stdout, /^name = "host1"\ncontrol = false$/m);
    t.regex(
      shown.stdout,
      /^\[channels\.vm1\]\naddress = "unix-connect:\/run\/vm1\.sock"\noutgoing = \[ "ssh:127\.0\.0\.1:9022" \]$/m,
    );
    const again = file(t, shown.stdout, 'again.toml');
    t.deepEqual(await runVproxy(['--config', again, '--print-config']), shown);
    const asJson = await runVproxy(['--config', again, '--print-config', '--json']);
    t.like(JSON.parse(asJson.stdout), {
      name: 'host1',
      control: false,
      channels: { vm1: { wait: 0 }, vm2: { address: 'stdio:' } },
    });
    t.deepEqual(await runVproxy(['--config', file(t, asJson.stdout, 'again.json'), '--print-config']), shown);
  },
);

test.serial('one process runs the channels of a file, each with its own forwards', async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'sockets'));
  const path = join(folder, 'vproxy.toml');
  writeFileSync(
    path,
    ['vm1', 'vm2']
      .map(
        (vm) =>
          `[channels.${vm}]\naddress = "unix-listen:${folder}/sockets/${vm}"\noutgoing = ["echo:${folder}/sockets/${vm}-echo"]\n`,
      )
      .join(''),
  );
  const host = spawnVproxy(t, ['--config', path]);
  await host.waitForLine(/vm2: waiting for the peer/);
  for (const vm of ['vm1', 'vm2']) {
    const target = await localServer(t, (socket) => {
      socket.write(vm);
      echo(socket);
    });
    spawnVproxy(t, ['-c', `unix://${folder}/sockets/${vm}`, '-i', `echo:${target.port}`, '--name', vm]);
    await host.waitForLine(new RegExp(`${vm}: ${ESTABLISHED.source}`));
    const socket = localSocket(t, { path: join(folder, `sockets/${vm}-echo`) });
    const answer = readToEnd(socket);
    socket.end('!');
    t.is((await answer).toString(), `${vm}!`);
  }
});

test.serial(
  'a group on the command line, and after a reload: each socket has a channel with forwards of its own',
  async (t) => {
    const folder = temporaryFolder(t);
    const config = join(folder, 'vproxy.toml');
    mkdirSync(join(folder, 'vms'));
    const write = (services: readonly string[]) => {
      const texts = services.map((service) => `"${service}:${folder}/{channel}-${service}.sock"`).join(', ');
      writeFileSync(config, `[channels.vms]\naddress = "unix://${folder}/vms/*.sock"\noutgoing = [${texts}]\n`);
    };
    write(['echo']);
    const host = spawnVproxy(t, ['--config', config]);
    const target = await localServer(t, echo);
    const guest = (vm: string) =>
      spawnVproxy(t, [
        '-c',
        `unix-listen:${folder}/vms/${vm}.sock`,
        '-i',
        `echo:${target.port}`,
        '-i',
        `more:${target.port}`,
      ]);
    const check = async (path: string) => {
      const socket = localSocket(t, { path: join(folder, path) });
      const answer = readToEnd(socket);
      socket.end('!');
      t.is((await answer).toString(), '!');
    };
    guest('vm7');
    guest('vm8');
    await host.waitForLine(new RegExp(`vm7: ${ESTABLISHED.source}`));
    await host.waitForLine(new RegExp(`vm8: ${ESTABLISHED.source}`));
    await check('vm7-echo.sock');
    await check('vm8-echo.sock');
    write(['more']);
    host.kill('SIGHUP');
    await host.waitForLine(/reloaded: forwards added: /);
    await check('vm7-more.sock');
    await check('vm8-more.sock');
    await t.throwsAsync(check('vm7-echo.sock'));
    t.is(host.lines.filter((line) => ESTABLISHED.test(line)).length, 2);
  },
);

test.serial(
  'another name, or other metrics, count from the next start on: a reload says so, and no channel begins again',
  async (t) => {
    const folder = temporaryFolder(t);
    const config = join(folder, 'vproxy.toml');
    const control = join(folder, 'control.sock');
    const write = (head: string, ownName = '') => {
      const channel = `[channels.vm1]\naddress = "unix-connect:${folder}/channel"\n${ownName}`;
      writeFileSync(config, `${head}\n${channel}`);
    };
    write('name = "one"');
    const guest = spawnVproxy(t, ['-c', `unix-listen:${folder}/channel`]);
    const host = spawnVproxy(t, ['--config', config, '--control', control]);
    await Promise.all([
      host.waitForLine(ESTABLISHED),
      host.waitForLine(TAKING_CONTROL),
      guest.waitForLine(ESTABLISHED),
    ]);
    const reload = async () => (await runVproxy(['reload', '--socket', control])).stdout;
    const processName = async () => {
      const { stdout } = await runVproxy(['status', '--json', '--socket', control]);
      return (JSON.parse(stdout) as { readonly process: { readonly name: string } }).process.name;
    };

    write('name = "two"\nmetrics = "127.0.0.1:0"');
    t.is(await reload(), 'counts from the next start on: name\ncounts from the next start on: metrics\n');
    t.is(await processName(), 'one');
    t.is(host.lines.filter((line) => ESTABLISHED.test(line)).length, 1);

    // A name that the channel has of its own is told to its peer, who has to be told anew.
    write('name = "one"', 'name = "own"\n');
    t.is(await reload(), 'channel replaced: vm1\n');
  },
);
