// DESS admin page: live updates, running clocks, filtering. The page works without any of it.
"use strict";
(() => {
  const root = document.documentElement;
  const words = root.dataset;
  let clockSkew = Number(words.now) - Date.now();

  // ---- clocks: <time data-since="ms"> shows how long ago, in words of the page's language ----
  const fill = (phrase, n) => (phrase || "{n}").replace("{n}", n);
  function span(ms, precise) {
    const s = Math.max(0, ms) / 1000;
    if (s < 60) return fill(words.seconds, Math.floor(s));
    if (s < 3600) {
      const minutes = fill(words.minutes, Math.floor(s / 60));
      return precise ? minutes + " " + fill(words.seconds, Math.floor(s % 60)) : minutes;
    }
    if (s < 172800) return fill(words.hours, Math.floor(s / 3600));
    return fill(words.days, Math.floor(s / 86400));
  }
  function tick() {
    const now = Date.now() + clockSkew;
    for (const time of document.querySelectorAll("time[data-since]")) {
      const text = span(now - Number(time.dataset.since), time.dataset.precise !== undefined);
      if (!time.title) time.title = time.textContent;
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // ---- filter and view: the same links work without script, through the address ----
  const seats = document.getElementById("seats");
  const search = document.getElementById("search");
  const asked = new URLSearchParams(location.search);
  let wanted = asked.get("state") || "all";
  function filter() {
    if (!seats) return;
    const text = search ? search.value.trim().toLowerCase() : "";
    let shown = 0;
    for (const seat of seats.querySelectorAll(".seat")) {
      const hit = (wanted === "all" || seat.dataset.state === wanted ||
        (wanted === "maintenance" && seat.dataset.maintenance !== undefined)) &&
        (text === "" || seat.dataset.find.includes(text) ||
          seat.dataset.find.includes(text.replaceAll("-", ":")));
      seat.hidden = !hit;
      if (hit) shown += 1;
    }
    const none = document.getElementById("none");
    if (none) none.hidden = shown > 0 || seats.querySelector(".seat") === null;
    for (const chip of document.querySelectorAll("a.chip")) {
      chip.setAttribute("aria-current", String(chip.dataset.filter === wanted));
    }
  }
  function remember(name, value, plain) {
    const address = new URL(location.href);
    if (value === plain) address.searchParams.delete(name); else address.searchParams.set(name, value);
    history.replaceState(null, "", address);
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[data-filter], a[data-view]");
    if (!link || !seats || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.dataset.filter) {
      wanted = link.dataset.filter;
      remember("state", wanted, "all");
      filter();
    } else {
      seats.dataset.view = link.dataset.view;
      document.dispatchEvent(new Event("dess:view"));
      document.cookie = "dess_view=" + link.dataset.view + "; path=/; max-age=31536000; samesite=lax";
      for (const other of document.querySelectorAll(".toggle a")) {
        other.setAttribute("aria-current", String(other === link));
      }
    }
  });
  if (search) {
    search.addEventListener("input", () => { remember("q", search.value.trim(), ""); filter(); });
    search.form.addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
        event.preventDefault();
        search.focus();
      }
    });
  }
  // A form is sent once, however often the button is pressed.
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (button && !event.defaultPrevented) setTimeout(() => { button.disabled = true; }, 0);
  });
  addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
  });

  // ---- live: the server sends the parts that changed, rendered in the page's language ----
  const parts = new Map();
  function replace(id, html) {
    const old = document.getElementById(id);
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const fresh = holder.content.firstElementChild;
    if (!fresh) return null;
    if (!old) return fresh;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const index = focused ? [...old.querySelectorAll("a,button,input,summary")].indexOf(focused) : -1;
    const open = [...old.querySelectorAll("details")].map((part) => part.open);
    [...fresh.querySelectorAll("details")].forEach((part, at) => { if (open[at]) part.open = true; });
    old.replaceWith(fresh);
    if (index >= 0) {
      const again = fresh.querySelectorAll("a,button,input,summary")[index];
      if (again) again.focus({ preventScroll: true });
    }
    return fresh;
  }
  // On narrow screens the healthy services are one line; whether it is open outlives updates.
  function brief() {
    const open = String(root.classList.contains("services-open"));
    for (const button of document.querySelectorAll("[data-services-toggle]")) {
      if (button.getAttribute("aria-expanded") !== open) button.setAttribute("aria-expanded", open);
    }
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest || !event.target.closest("[data-services-toggle]")) return;
    root.classList.toggle("services-open");
    brief();
  });
  function apply(change) {
    clockSkew = change.now - Date.now();
    if (change.reload && !root.classList.contains("arranging")) { location.reload(); return; }
    for (const [id, html] of Object.entries(change.set || {})) parts.set(id, replace(id, html));
    if (change.seats && seats) {
      const keep = new Set(change.seats);
      for (const seat of [...seats.querySelectorAll(".seat")]) if (!keep.has(seat.id)) seat.remove();
      change.seats.forEach((id, at) => {
        const seat = document.getElementById(id) || parts.get(id);
        if (seat && seats.children[at] !== seat) seats.insertBefore(seat, seats.children[at] || null);
      });
    }
    parts.clear();
    brief();
    if (change.say) {
      const voice = document.getElementById("voice");
      if (voice && voice.textContent !== change.say) voice.textContent = change.say;
    }
    filter();
    tick();
    document.dispatchEvent(new Event("dess:changed"));
  }
  const link = document.getElementById("link-state");
  const show = (state) => { if (link) link.dataset.link = state; };
  let retry = 1000;
  function connect() {
    const source = new EventSource(words.live);
    source.addEventListener("change", (event) => { show("live"); apply(JSON.parse(event.data)); });
    source.addEventListener("hello", (event) => {
      retry = 1000;
      clockSkew = Number(event.data) - Date.now();
      show("live");
    });
    source.onerror = async () => {
      show("lost");
      source.close();
      // The login may have ended: then the page says so instead of pretending to be live.
      try {
        const answer = await fetch("/api/v1/session", { cache: "no-store" });
        if (answer.status === 401) { location.reload(); return; }
      } catch (_) { /* the server is away; try again below */ }
      setTimeout(connect, retry);
      retry = Math.min(retry * 2, 10000);
    };
  }
  root.classList.add("js");
  // What was just done is said once, not again after a reload.
  if (asked.has("done")) { remember("done", "", ""); remember("on", "", ""); }
  if (search && asked.get("q")) search.value = asked.get("q");
  filter();
  tick();
  setInterval(tick, 1000);
  if (words.live) connect();
})();
