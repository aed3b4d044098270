// vproxy-ssh.1: the section of docs/exec.md about it.
import { findSection, readDocument } from '../document.mjs';
import { renderBlocks } from '../render.mjs';
import { escapeCode, fill, italic, reference } from '../roff.mjs';

const PAGE = 'vproxy-ssh.1';

export const head = { name: 'vproxy-ssh', section: 1, title: 'User Commands' };

export function format() {
  const { blocks } = findSection(readDocument('exec.md'), 'rsync, scp, sftp, sshfs and git without sshd');
  const synopsis = blocks.find(([{ type, info }]) => type === 'fence' && info === 'text');
  return [
    ...['.SH NAME', 'vproxy\\-ssh \\- stand\\-in for ssh in rsync, scp, sftp, sshfs and git'],
    ...['.SH SYNOPSIS', escapeCode(synopsis[0].content.trim())],
    ...[
      '.SH DESCRIPTION',
      ...renderBlocks(
        blocks.filter((block) => block !== synopsis),
        PAGE,
      ),
    ],
    ...[
      '.SH SEE ALSO',
      ...fill(
        `${['vproxy.1', 'vproxy-exec.1', 'ssh.1'].map(reference).join(', ')}; the full documentation is ${italic(escapeCode('/usr/share/doc/vproxy/exec.md'))}, or in the folder ${italic('docs')} of the npm package.`,
      ),
    ],
  ];
}
