/** The page of `vproxy web`. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { MachinesView } from '../views.js';
import { Questions } from './egress.js';
import { Around, placeOf, usePlace, usePolled } from './hooks.js';
import { Machine } from './machine.js';
import { Machines } from './machines.js';
import { Foreign } from './parts.js';
import { Recordings } from './recordings.js';
import { formatUrl } from './requests.js';

/** A message of an action that succeeded is shown for so long. */
const SHOWN_MS = 5000;

function Page() {
  const [view = '', ...words] = usePlace();
  const [message, setMessage] = useState<{ readonly text: string; readonly isFailure: boolean } | null>(null);
  const { value } = usePolled<MachinesView>(formatUrl('/api/machines', { count: 0 }), 5000);
  useEffect(() => {
    if (message === null || message.isFailure) return;
    const timer = setTimeout(() => setMessage(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [message]);
  const asked = value?.questions.length ?? 0;
  const around = {
    isReadOnly: value?.isReadOnly ?? true,
    tell: (text: string, isFailure = false) => setMessage({ text, isFailure }),
  };
  const [process = '', label = '', tab = '', ...rest] = words;
  const isMachines = !['egress', 'recordings', 'm'].includes(view);
  return (
    <Around.Provider value={around}>
      <header>
        <a class="brand" href={placeOf('')}>
          vproxy
        </a>
        <nav aria-label="Views">
          <a href={placeOf('')} aria-current={isMachines ? 'page' : undefined}>
            Machines
          </a>
          <a href={placeOf('egress')} aria-current={view === 'egress' ? 'page' : undefined}>
            Egress{asked > 0 ? <span class="badge doubtful">{asked}</span> : null}
          </a>
          {value?.hasRecordings === true ? (
            <a href={placeOf('recordings')} aria-current={view === 'recordings' ? 'page' : undefined}>
              Recordings
            </a>
          ) : null}
        </nav>
        {value?.isReadOnly === true ? <span class="aside">read only</span> : null}
      </header>
      {view === 'm' ? (
        <Machine key={`${process}/${label}`} process={process} label={label} tab={tab} rest={rest} />
      ) : view === 'egress' ? (
        <Questions />
      ) : view === 'recordings' ? (
        <Recordings name={words[0]} />
      ) : (
        <Machines />
      )}
      <div class="messages" role="status">
        {message === null ? null : (
          <p class={`notice ${message.isFailure ? 'bad' : 'good'}`}>
            <Foreign text={message.text} most={1000} />
            {message.isFailure ? (
              <button type="button" onClick={() => setMessage(null)}>
                Close
              </button>
            ) : null}
          </p>
        )}
      </div>
    </Around.Provider>
  );
}

// The token has become a cookie; nobody needs it in the history.
if (location.search !== '') history.replaceState(null, '', location.pathname + location.hash);
const place = document.getElementById('page');
if (place !== null) render(<Page />, place);
