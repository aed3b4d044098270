/** `vproxy-ssh`: rsync, scp, sftp, sshfs and git by `vproxy exec` and the service `sftp`, with both programs in the guest. */
import { spawnSync } from 'node:child_process';
import test, { type ExecutionContext } from 'ava';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { temporaryFolder } from '../helpers/files.js';
import { execPair } from '../helpers/process-pair.js';
import { serialTestWith, testWith } from '../helpers/test-with.js';
import { type RunResult, runProgram, VPROXY } from '../helpers/vproxy-process.js';
import { VPROXY_SSH, withVproxySsh } from '../helpers/vproxy-ssh.js';

buildGuest();

type Script = (text: string) => Promise<RunResult>;

/** A pair with the channel `vm1`, and a bash at the host with `$WORK` as its folder, and a fresh home. */
async function start(t: ExecutionContext, guestOptions: object, permission = '--allow-exec'): Promise<Script> {
  const pair = await execPair(t, [permission], { guestOptions });
  const path = withVproxySsh(t, `exec ${VPROXY} "$@"`);
  const env = { ...process.env, ...pair.env, PATH: path, HOME: temporaryFolder(t) };
  return (text) => runProgram(['bash', '-euc', `cd "$WORK"\n${text}`], { env });
}

async function succeeds(t: ExecutionContext, script: Script, text: string): Promise<string> {
  const { code, stdout, stderr } = await script(text);
  t.is(code, 0, `${text}\n${stdout}${stderr}`);
  return stdout;
}

async function checkCopies(t: ExecutionContext, guestOptions: object, permission: string): Promise<void> {
  const script = await start(t, guestOptions, permission);
  await succeeds(
    t,
    script,
    `
      mkdir -p tree/inner there && head -c 3000000 /dev/urandom > 'tree/inner/a file' && echo text > tree/text
      scp -q -r -S vproxy-ssh tree "default:$WORK/there"
      diff -r tree there/tree
      scp -q -r ${permission === '--allow-exec' ? '-O' : ''} -S vproxy-ssh "default:$WORK/there/tree" back
      diff -r tree back
      printf '%s\\n' "put tree/text $WORK/put" "get '$WORK/there/tree/inner/a file' got" | sftp -q -b - -S vproxy-ssh default
      cmp put tree/text
      cmp got 'tree/inner/a file'`,
  );
}

async function checkMount(t: ExecutionContext, guestOptions: object, permission: string): Promise<void> {
  const script = await start(t, guestOptions, permission);
  await succeeds(
    t,
    script,
    `
      mkdir mnt there && head -c 3000000 /dev/urandom > there/bytes
      sshfs -o ssh_command=vproxy-ssh "default:$WORK/there" mnt
      trap 'fusermount3 -u mnt' EXIT
      cmp mnt/bytes there/bytes
      echo written > mnt/new
      grep written there/new`,
  );
}

const GUESTS = [
  ['vproxy', [], {}],
  ['vproxy-guest', ['go'], AS_GUEST],
] as const;

for (const [name, needs, guestOptions] of GUESTS) {
  serialTestWith(...needs)(`${name}: words, statuses, standard input, and failures as in ssh`, async (t) => {
    const script = await start(t, guestOptions);
    for (const [text, code, stdout] of [
      ["vproxy-ssh default 'echo $((1 + 2))' '; exit 3'", 3, '3\n'],
      ['vproxy-ssh -x -oBatchMode=yes -p 22 default -l "$(id -un)" -- echo a "b   c"', 0, 'a b c\n'],
      ['echo in | vproxy-ssh vproxy%default cat', 0, 'in\n'],
      ['echo in | vproxy-ssh -n vproxy/default cat', 0, ''],
      ['vproxy-ssh -t default tty < /dev/null', 1, 'not a tty\n'],
      ['vproxy-ssh -tt default tty < /dev/null | grep -c /dev/pts/', 0, '1\n'],
      ["echo 'echo from a shell; exit 5' | vproxy-ssh -T default", 5, 'from a shell\n'],
      ['vproxy-ssh default exit 125', 125, ''],
      ["vproxy-ssh default 'kill -KILL $$'", 137, ''],
      ['vproxy-ssh nowhere true', 255, ''],
      ['vproxy-ssh no-such-user@default true', 255, ''],
      ['VPROXY_SOCKET=/nonexistent vproxy-ssh default true', 255, ''],
      ['vproxy-ssh -s default nfs', 255, ''],
      ['GIT_PROTOCOL=version=2 vproxy-ssh -o SendEnv=GIT_PROTOCOL default printenv GIT_PROTOCOL', 0, 'version=2\n'],
    ] as const) {
      const result = await script(text);
      t.deepEqual([result.code, result.stdout], [code, stdout], `${text}\n${result.stderr}`);
      t.is(result.stderr.split('\n').length - 1, code === 255 ? 1 : 0, `${text}\n${result.stderr}`);
    }
  });

  serialTestWith('rsync', ...needs)(`${name}: rsync, both ways, with --delete`, async (t) => {
    const script = await start(t, guestOptions);
    await succeeds(
      t,
      script,
      `
      mkdir -p 'a folder/inner' && seq 200000 > 'a folder/large' && head -c 3000000 /dev/urandom > 'a folder/inner/bytes'
      ln -s large 'a folder/link'
      rsync -a -e vproxy-ssh 'a folder/' "default:$WORK/there/"
      diff -r --no-dereference 'a folder' there
      rm 'a folder/large' && echo changed > 'a folder/inner/new'
      rsync -a --delete -e vproxy-ssh 'a folder/' "$(id -un)@default:$WORK/there/"
      diff -r --no-dereference 'a folder' there
      echo theirs > there/inner/new
      test "$(rsync -a -n -i --delete --rsh=vproxy-ssh "default:$WORK/there/" 'a folder/' | grep ^.f | cut -d ' ' -f 2)" = inner/new
      rsync -a --delete -e vproxy-ssh "default:$WORK/there/" 'a folder/'
      grep theirs 'a folder/inner/new'`,
    );
    const { code } = await script('rsync -a -e vproxy-ssh default:/nonexistent/ .');
    t.is(code, 23);
  });

  for (const permission of ['--allow-exec', '--allow-copy'])
    serialTestWith('sshd', ...needs)(`${name} ${permission}: scp and sftp`, (t) =>
      checkCopies(t, guestOptions, permission),
    );

  for (const permission of ['--allow-exec', '--allow-copy'])
    serialTestWith(
      'root',
      'sshd',
      'sshfs',
      ...needs,
    )(`${name} ${permission}: sshfs`, (t) => checkMount(t, guestOptions, permission));

  serialTestWith('git', ...needs)(`${name}: git clones and pushes`, async (t) => {
    const script = await start(t, guestOptions);
    const version = await succeeds(
      t,
      script,
      `
      export GIT_SSH_COMMAND=vproxy-ssh GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
      git init -q --bare -b main "it's.git"
      git init -q -b main first && cd first && seq 10000 > numbers && git add . && git commit -q -m numbers
      git push -q "default:$WORK/it's.git" main
      git clone -q "ssh://default:22$WORK/it's.git" ../second
      cd ../second && cmp numbers ../first/numbers && git commit -q --allow-empty -m empty && git push -q origin main
      test "$(git -C "../it's.git" rev-parse main)" = "$(git rev-parse HEAD)"
      GIT_TRACE_PACKET=1 git ls-remote 2>&1 | grep -o 'version 2$' | head -1`,
    );
    t.is(version, 'version 2\n');
  });
}

test('words of ssh become words of vproxy exec', (t) => {
  const call = (...words: string[]): string => {
    const env = { PATH: withVproxySsh(t, String.raw`printf '<%s>' "$@"`) };
    const { stdout, stderr, status } = spawnSync('vproxy-ssh', words, { env, encoding: 'utf8' });
    return status === 0 ? stdout.replace('<exec><--failure-status><255><--channel>', '') : `${status}: ${stderr}`;
  };
  t.is(call('vm1'), '<vm1>');
  t.is(call('-l', 'a', '-T', 'b@vm1'), '<vm1><--user=a><-T>');
  t.is(call('-oUser=a', 'c@d@vm1'), '<vm1><--user=a>');
  t.is(call('c@d@vm1', '-n'), '<vm1><--user=c@d><-n>');
  t.is(call('-tt', 'vm1'), '<vm1><-tt>');
  t.regex(
    call('-AaCxXYq4', '-iKEY', '-i', 'key', '-F/dev/null', '-Bx', '-P', 'tag', 'vm1', 'ls', '-l', '*'),
    /<ls -l \*>$/,
  );
  t.is(call('-x', '-a', '-oClearAllForwardings=yes', '-2', 'vm1', '-s', 'sftp'), '<connect><--channel><vm1><sftp>');
  t.regex(call('-l', 'a', 'vm1', '-s', 'sftp'), /^<vm1><--user=a><--><sh><-c><[^<>]*sftp-server/);
  t.is(call('-G', 'vm1'), '');
  for (const [words, message] of [
    [[], 'usage: vproxy-ssh [-nTt] [-l USER] [-s] [USER@]LABEL [COMMAND [ARG…]]'],
    [['-L', '1:b:2', 'vm1'], '-L: cannot forward; use -o and -i of vproxy'],
    [['-N', 'vm1'], '-N: cannot forward; use -o and -i of vproxy'],
    [['-J', 'a', 'vm1'], '-J: not supported'],
    [['vm1', '-l'], '-l: missing value'],
    [['-z', 'vm1'], '-z: unknown option'],
    [['--', '-oProxyCommand=x'], 'invalid destination "-oProxyCommand=x"'],
    [['a@', 'ls'], 'invalid destination ""'],
  ] as const)
    t.is(call(...words), `255: vproxy-ssh: ${message}\n`);
});

testWith('shellcheck')('shellcheck finds no problems in it', (t) => {
  const { status, stdout } = spawnSync('shellcheck', [VPROXY_SSH], { encoding: 'utf8' });
  t.is(status, 0, stdout);
});
