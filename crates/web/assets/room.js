// DESS admin page: arranging the seats on the plan of the room.
"use strict";
(() => {
  const root = document.documentElement;
  const seats = document.getElementById("seats");
  const button = document.getElementById("arrange");
  const form = document.getElementById("plan");
  if (!seats || !button || !form) return;
  const words = form.dataset;
  const SIDE = 64;
  const voice = document.getElementById("voice");
  const say = (text) => { if (voice) voice.textContent = text; };
  const arranging = () => root.classList.contains("arranging");
  const all = () => [...seats.querySelectorAll(".seat")];
  const zones = () => [...seats.querySelectorAll(".zone")];
  const within = (value, low, high) => Math.max(low, Math.min(high, value));

  // ---- the view decides which buttons there are ----
  function viewed() {
    const map = seats.dataset.view === "map";
    button.hidden = !map || arranging();
    if (!map && arranging()) stop();
  }
  document.addEventListener("dess:view", viewed);
  viewed();

  // ---- places: kept here while arranging, since live updates bring back the saved ones ----
  const places = new Map();
  let columns = 0;
  const at = (x, y, but) => [...places].find(([id, place]) => id !== but && place[0] === x && place[1] === y);
  function draw() {
    if (!arranging()) return;
    for (const seat of all()) {
      let place = places.get(seat.id);
      if (!place) {
        let y = 1;
        while (at(1, y)) y += 1;
        places.set(seat.id, place = [1, y]);
      }
      seat.dataset.x = place[0];
      seat.dataset.y = place[1];
    }
    const spans = zones().map((zone) => [Number(zone.dataset.x) + Number(zone.dataset.w) - 1, Number(zone.dataset.y) + Number(zone.dataset.h) - 1]);
    const far = (axis) => Math.max(0, ...[...places.values()].map((place) => place[axis]), ...spans.map((span) => span[axis]));
    columns = within(Math.max(far(0) + 2, 10), 1, SIDE);
    const rows = within(far(1) + 2, 4, SIDE);
    seats.style.gridTemplateColumns = "repeat(" + columns + ", var(--tile))";
    seats.style.gridTemplateRows = "repeat(" + rows + ", var(--tile-high))";
  }
  document.addEventListener("dess:changed", draw);

  function lineUp(perRow) {
    all().forEach((seat, index) => places.set(seat.id, [1 + index % perRow, 1 + Math.floor(index / perRow)]));
    draw();
  }
  function start() {
    // Filtered seats would be in the way unseen.
    const everything = document.querySelector("a.chip[data-filter=all]");
    if (everything) everything.click();
    const search = document.getElementById("search");
    if (search && search.value) { search.value = ""; search.dispatchEvent(new Event("input")); }
    root.classList.add("arranging");
    places.clear();
    for (const seat of all()) if (seat.dataset.x) places.set(seat.id, [Number(seat.dataset.x), Number(seat.dataset.y)]);
    if (places.size === 0) lineUp(Math.min(10, Math.max(1, all().length)));
    seats.dataset.planned = "";
    zones().forEach(dress);
    form.hidden = false;
    button.setAttribute("aria-pressed", "true");
    viewed();
    draw();
  }
  function stop() { location.assign("/"); }
  button.addEventListener("click", start);
  document.getElementById("line-up").addEventListener("click", () => {
    lineUp(within(Number(document.getElementById("per-row").value) || 10, 1, SIDE));
  });

  // ---- zones ----
  function dress(zone) {
    if (zone.querySelector("input")) return;
    const name = zone.querySelector(".zone-name");
    const make = (tag, cls, label) => {
      const part = document.createElement(tag);
      part.className = cls;
      part.setAttribute("aria-label", label);
      if (tag === "button") { part.type = "button"; part.title = label; }
      return part;
    };
    const field = make("input", "zone-field", words.zoneName);
    field.maxLength = 40;
    field.value = name.textContent;
    field.addEventListener("input", () => { name.textContent = field.value; });
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
    const remove = make("button", "zone-remove", words.zoneRemove);
    remove.textContent = "\u00d7";
    remove.addEventListener("click", () => { zone.remove(); draw(); });
    const head = document.createElement("div");
    head.className = "zone-head";
    const move = make("button", "zone-move", words.zoneMove);
    head.append(move, field, remove);
    zone.append(head, make("button", "zone-size", words.zoneResize));
  }
  document.getElementById("zone-add").addEventListener("click", () => {
    const zone = document.createElement("li");
    zone.className = "zone";
    const bottom = within(1 + Math.max(0, ...[...places.values()].map((place) => place[1])), 1, SIDE - 1);
    Object.assign(zone.dataset, { x: 1, y: bottom, w: 4, h: 2 });
    const name = document.createElement("span");
    name.className = "zone-name";
    name.textContent = words.zoneNew + " " + (zones().length + 1);
    zone.append(name);
    seats.append(zone);
    dress(zone);
    draw();
    const field = zone.querySelector("input");
    field.focus();
    field.select();
  });
  function shape(zone, change) {
    const now = ["x", "y", "w", "h"].map((key) => Number(zone.dataset[key]));
    const x = within(now[0] + change.x, 1, SIDE), y = within(now[1] + change.y, 1, SIDE);
    zone.dataset.x = x;
    zone.dataset.y = y;
    zone.dataset.w = within(now[2] + change.w, 1, SIDE + 1 - x);
    zone.dataset.h = within(now[3] + change.h, 1, SIDE + 1 - y);
    draw();
  }

  // ---- moving: a seat put on another one changes places with it ----
  function put(seat, x, y) {
    const from = places.get(seat.id);
    x = within(x, 1, SIDE);
    y = within(y, 1, SIDE);
    if (from[0] === x && from[1] === y) return;
    const other = at(x, y, seat.id);
    if (other) places.set(other[0], from);
    places.set(seat.id, [x, y]);
    draw();
    say(words.moved.replace("{n}", seat.dataset.seat).replace("{x}", x).replace("{y}", y));
  }
  const cell = () => {
    const style = getComputedStyle(seats);
    const first = (tracks) => parseFloat(tracks.split(" ")[0]);
    return [first(style.gridTemplateColumns) + parseFloat(style.columnGap), first(style.gridTemplateRows) + parseFloat(style.rowGap)];
  };
  let held = null;
  seats.addEventListener("pointerdown", (event) => {
    if (!arranging() || event.button !== 0) return;
    const handle = event.target.closest(".zone-move, .zone-size");
    const seat = handle ? null : event.target.closest(".seat");
    if (!handle && !seat) return;
    event.preventDefault();
    held = { handle, id: seat && seat.id, zone: handle && handle.closest(".zone"), x: event.clientX, y: event.clientY, dx: 0, dy: 0 };
    if (seat) seat.querySelector("a").focus({ preventScroll: true });
    seats.setPointerCapture(event.pointerId);
  });
  seats.addEventListener("pointermove", (event) => {
    if (!held) return;
    held.dx = event.clientX - held.x;
    held.dy = event.clientY - held.y;
    const seat = held.id && document.getElementById(held.id);
    if (seat) {
      seat.classList.add("held");
      seat.style.transform = "translate(" + held.dx + "px," + held.dy + "px)";
      return;
    }
    const [wide, high] = cell();
    const steps = [Math.round(held.dx / wide), Math.round(held.dy / high)];
    if (steps[0] === 0 && steps[1] === 0) return;
    held.x += steps[0] * wide;
    held.y += steps[1] * high;
    const size = held.handle.classList.contains("zone-size");
    shape(held.zone, size ? { x: 0, y: 0, w: steps[0], h: steps[1] } : { x: steps[0], y: steps[1], w: 0, h: 0 });
  });
  function drop(event) {
    if (!held) return;
    const seat = held.id && document.getElementById(held.id);
    if (seat) {
      seat.classList.remove("held");
      seat.style.transform = "";
      const [wide, high] = cell();
      const from = places.get(seat.id);
      if (event.type === "pointerup") put(seat, from[0] + Math.round(held.dx / wide), from[1] + Math.round(held.dy / high));
    }
    held = null;
  }
  seats.addEventListener("pointerup", drop);
  seats.addEventListener("pointercancel", drop);
  seats.addEventListener("click", (event) => { if (arranging() && event.target.closest(".seat")) event.preventDefault(); }, true);
  seats.addEventListener("dragstart", (event) => { if (arranging()) event.preventDefault(); });
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  seats.addEventListener("keydown", (event) => {
    const step = arranging() && ARROWS[event.key];
    if (!step || event.target.matches("input")) return;
    const handle = event.target.closest(".zone-move, .zone-size");
    const seat = event.target.closest(".seat");
    if (!handle && !seat) return;
    event.preventDefault();
    if (seat) {
      const from = places.get(seat.id);
      put(seat, from[0] + step[0], from[1] + step[1]);
      return;
    }
    const size = handle.classList.contains("zone-size");
    shape(handle.closest(".zone"), size ? { x: 0, y: 0, w: step[0], h: step[1] } : { x: step[0], y: step[1], w: 0, h: 0 });
  });

  form.addEventListener("submit", () => {
    form.elements.seats.value = all().map((seat) => [seat.id.slice(5), ...places.get(seat.id)].join(" ")).join("\n");
    form.elements.zones.value = zones().map((zone) => {
      const { x, y, w, h } = zone.dataset;
      return [x, y, w, h, zone.querySelector(".zone-name").textContent.trim() || words.zoneNew].join(" ");
    }).join("\n");
  });
})();

// ---- several seats at once: the boxes are there without script, too ----
(() => {
  const root = document.documentElement;
  const seats = document.getElementById("seats");
  const button = document.getElementById("select");
  const bar = document.getElementById("batch");
  if (!seats || !button || !bar) return;
  const count = document.getElementById("batch-count");
  const chosen = new Set();
  let last = null;
  const boxes = () => [...seats.querySelectorAll(".seat:not([hidden]) .pick")];
  const selecting = () => root.classList.contains("selecting");
  function show() {
    for (const box of seats.querySelectorAll(".pick")) box.checked = chosen.has(box.value);
    count.textContent = bar.dataset.count.replace("{n}", chosen.size);
    const pending = [...chosen].some((number) => seats.querySelector('.seat[data-state="pending"][data-seat="' + number + '"]'));
    for (const action of bar.querySelectorAll("[name=do]")) {
      action.disabled = chosen.size === 0;
      action.hidden = action.value === "approve" && !pending;
    }
  }
  function set(box, on) { if (on) chosen.add(box.value); else chosen.delete(box.value); }
  function toggle(box, range) {
    const all = boxes();
    const on = !chosen.has(box.value);
    const from = range && last ? all.findIndex((other) => other.value === last) : -1;
    const to = all.indexOf(box);
    if (from >= 0) for (const other of all.slice(Math.min(from, to), Math.max(from, to) + 1)) set(other, on);
    else set(box, on);
    last = box.value;
    show();
  }
  button.addEventListener("click", () => {
    root.classList.toggle("selecting");
    button.setAttribute("aria-pressed", String(selecting()));
    if (!selecting()) { chosen.clear(); last = null; }
    show();
  });
  seats.addEventListener("click", (event) => {
    if (!selecting()) return;
    const seat = event.target.closest(".seat");
    if (!seat || event.target.closest("form")) return;
    const box = seat.querySelector(".pick");
    if (event.target !== box) event.preventDefault();
    toggle(box, event.shiftKey);
  });
  document.getElementById("batch-all").addEventListener("click", () => { boxes().forEach((box) => set(box, true)); show(); });
  document.getElementById("batch-none").addEventListener("click", () => { chosen.clear(); show(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && selecting()) button.click(); });
  document.addEventListener("dess:changed", () => { if (selecting()) show(); });
  addEventListener("pageshow", () => { for (const box of seats.querySelectorAll(".pick")) box.checked = false; show(); });
})();
