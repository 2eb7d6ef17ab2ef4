// A React hook for Sluice; "react" comes from a bundler or an import map. All
// components share one Sluice, that of the nearest SluiceContext, or else the
// page's own, which is made with no options.
//
//   const { event, status } = useSluice("auction:1");
//   useSluice("chat:demo", { onEvent: e => add(e.data), onGap: reload });

import { createContext, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { Sluice } from "./sluice.js";

export const SluiceContext = createContext(null);

let page; // without subscriptions it has no connection
const idle = { state: "idle" };

// useSluice listens as long as the component is there. With onEvent the component
// is not rendered for events.
export function useSluice(channel, { pattern = false, name, onEvent, onGap } = {}) {
  const sluice = useContext(SluiceContext) ?? (page ??= new Sluice());
  const [last, setLast] = useState({});
  const latest = useRef({});
  useEffect(() => { latest.current = { onEvent, onGap }; });

  useEffect(() => {
    if (channel == null) return;
    const listen = event => latest.current.onEvent ? latest.current.onEvent(event) : setLast(l => ({ ...l, channel, event }));
    const gap = ({ detail }) => {
      if (!(pattern ? detail.patterns : detail.channels).includes(channel)) return;
      setLast(l => ({ ...l, channel, gap: detail }));
      latest.current.onGap?.(detail);
    };
    const end = sluice[pattern ? "subscribePattern" : "subscribe"](channel, ...(name === undefined ? [] : [name]), listen);
    sluice.addEventListener("gap", gap);
    return () => {
      end();
      sluice.removeEventListener("gap", gap);
      setLast({});
    };
  }, [sluice, channel, pattern, name]);

  const watch = useCallback(changed => {
    sluice.addEventListener("status", changed);
    return () => sluice.removeEventListener("status", changed);
  }, [sluice]);
  const status = useSyncExternalStore(watch, () => sluice.status, () => idle);
  return { event: last.event ?? null, gap: last.gap ?? null, status, sluice };
}
