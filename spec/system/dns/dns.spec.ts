/** Look-ups of names: messages, the files of a host, and name servers. */
import './dns-message.js';
import './host-files.js';
import './name-servers.js';
