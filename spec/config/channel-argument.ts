import test from 'ava';
import { parseChannelArgument } from '../../lib/settings/arguments.js';

const means = test.macro({
  title: (_, text: string) => `-c ${text}`,
  exec: (t, text: string, label: string, address: string) =>
    t.deepEqual(parseChannelArgument(text), { label, address }),
});

test(means, 'unix-connect:/run/vm1.sock', 'default', 'unix-connect:/run/vm1.sock');
test(means, 'vm1=unix-connect:/run/vm1.sock', 'vm1', 'unix-connect:/run/vm1.sock');
test(means, 'a.b_c-1=tcp://[::1]:9000?frame=4096', 'a.b_c-1', 'tcp://[::1]:9000?frame=4096');
// An equals sign after the colon does not end a label.
test(means, 'unix-connect:/a,frame=4096', 'default', 'unix-connect:/a,frame=4096');
test(means, 'stdio:,frame=4096', 'default', 'stdio:,frame=4096');
test(means, 'vm1=stdio:,frame=4096', 'vm1', 'stdio:,frame=4096');
test(means, 'unix:///a?frame=4096', 'default', 'unix:///a?frame=4096');
test(means, 'exec:env A=b ssh', 'default', 'exec:env A=b ssh');
test(means, 'vm1=vm2=stdio:', 'vm1', 'vm2=stdio:');
test(means, `${'x'.repeat(64)}=stdio:`, 'x'.repeat(64), 'stdio:');
test(means, 'nothing', 'default', 'nothing');

for (const text of ['=stdio:', 'VM=stdio:', 'a b=stdio:', 'a,b=stdio:', 'a/b=stdio:', `${'x'.repeat(65)}=stdio:`]) {
  test(`-c ${text} is refused for its label`, (t) => {
    const error = t.throws(() => parseChannelArgument(text), { code: 'bad-argument' });
    t.regex(error.message, /^channel label ".*": it is not 1 to 64 of a-z/);
  });
}
