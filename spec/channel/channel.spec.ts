/** What needs no channel of the system. */
import './address.js';
import './duplex-link.js';
import './gathered-writes.js';
import './qemu-chardev.js';
import './read-slab.js';
import './uri.js';
