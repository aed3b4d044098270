// All pages of the manual.

import { commandPages } from './pages/commands.mjs';
import * as vproxy from './pages/vproxy.mjs';
import * as vproxyConf from './pages/vproxy-conf.mjs';
import * as vproxyProtocol from './pages/vproxy-protocol.mjs';
import * as vproxySsh from './pages/vproxy-ssh.mjs';
import * as vproxyStorage from './pages/vproxy-storage.mjs';
import { formatPage } from './roff.mjs';

/** Formats each page as `{ file, section, text }`. `date`: a Date. */
export async function formatManuals({ version, date }) {
  const pages = [vproxy, ...(await commandPages()), vproxySsh, vproxyStorage, vproxyConf, vproxyProtocol];
  return Promise.all(
    pages.map(async ({ head, format }) => {
      const text = formatPage({ ...head, version, date }, await format());
      return { file: `${head.name}.${head.section}`, section: head.section, text };
    }),
  );
}
