// All pages of the manual.

import * as vproxy from './pages/vproxy.mjs';
import * as vproxyConf from './pages/vproxy-conf.mjs';
import * as vproxyProtocol from './pages/vproxy-protocol.mjs';
import * as vproxyStorage from './pages/vproxy-storage.mjs';
import { formatPage } from './roff.mjs';

const PAGES = [vproxy, vproxyStorage, vproxyConf, vproxyProtocol];

/** Formats each page as `{ file, section, text }`. `date`: a Date. */
export function formatManuals({ version, date }) {
  return Promise.all(
    PAGES.map(async ({ head, format }) => {
      const text = formatPage({ ...head, version, date }, await format());
      return { file: `${head.name}.${head.section}`, section: head.section, text };
    }),
  );
}
