/** Channels between proxies: dialled, listened on, kept for one peer, met by strangers, lost and given up. */
import './channel-supervision.js';
import './exclusive.js';
import './strangers.js';
