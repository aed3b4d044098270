/** A layer in the place of TLS that protects nothing: the bytes in it can be seen, and made by hand. */
import type { SecureLayerFactory, SecureLayerHandler } from '../../lib/session/opening/auth.js';

const NOTHING = Buffer.alloc(0);

/** It is ready with the first bytes that come. `onMade` gets what it calls. */
export function glassLayer(onMade: (handler: SecureLayerHandler) => void = () => undefined): SecureLayerFactory {
  return (_agreement, channel, handler) => {
    let isReady = false;
    onMade(handler);
    return {
      isMidRecord: false,
      receive: (chunk) => {
        if (!isReady) handler.onReady(channel);
        isReady = true;
        handler.onBytes(chunk);
        return NOTHING;
      },
      handleDrain: () => handler.onDrain(),
      close: (onClosed) => onClosed(),
      destroy: () => undefined,
    };
  };
}
