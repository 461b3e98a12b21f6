"use strict";
// The report's gallery: filters, order, and one image at full size. Everything that it shows is on
// the page already, which is complete without it. It fetches nothing and stores nothing.
(() => {
  const PAGE = 60; // cards in the document at once: thousands make scrolling slow
  const FULL = 640; // pixels of the longest side, below which pictures are enlarged
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  root.classList.add("js");

  // ---- commands to copy

  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // not allowed here: it is selected, to be copied by hand
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  const list = $("cards");
  if (!list) return;

  // ---- the cards, as values

  const words = (text) => new Set((text || "").split(" ").filter(Boolean));
  const number = (text) => (text === undefined ? null : Number(text));
  const cards = [...list.children].map((node, place) => ({
    node,
    place,
    id: node.querySelector("h3").textContent,
    split: node.dataset.split,
    classes: words(node.dataset.classes),
    reasons: words(node.dataset.reasons),
    trust: number(node.dataset.trust),
    iou: number(node.dataset.iou),
    changed: number(node.dataset.changed),
    corrected: "corrected" in node.dataset,
    isThere: node.querySelector("img") !== null, // something to be seen large
  }));
  for (const card of cards) {
    const stack = card.node.querySelector(".stack");
    if (!card.isThere) continue;
    stack.tabIndex = 0;
    stack.setAttribute("role", "button");
    stack.setAttribute("aria-label", `Enlarge ${card.id}`);
  }

  const ascending = (key) => (a, b) => (a[key] ?? Infinity) - (b[key] ?? Infinity);
  const orders = {
    trust: ascending("trust"),
    iou: ascending("iou"),
    changed: (a, b) => (b.changed ?? -1) - (a.changed ?? -1),
    id: (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
  };

  // ---- filters; the hash of the address holds them, so that a view can be passed on

  const form = $("filters");
  const more = $("more");
  let found = cards;
  let shown = PAGE;
  const first = form.sort.value;

  const state = () => {
    const told = [...new FormData(form)].filter(
      ([name, value]) => value !== "" && !(name === "sort" && value === first));
    return new URLSearchParams(told);
  };

  const isFit = (card, wanted) => {
    const has = (name) => wanted.has(name);
    if (has("q") && !card.id.toLowerCase().includes(wanted.get("q").toLowerCase())) return false;
    if (has("class") && !card.classes.has(wanted.get("class"))) return false;
    if (has("reason") && !card.reasons.has(wanted.get("reason"))) return false;
    if (has("split") && card.split !== wanted.get("split")) return false;
    if (has("from") && !((card.trust ?? -1) >= Number(wanted.get("from")))) return false;
    if (has("to") && !((card.trust ?? 101) <= Number(wanted.get("to")))) return false;
    if (has("corrected") && !card.corrected) return false;
    return !has("changed") || card.changed > 0;
  };

  const remember = () => {
    const told = state();
    if (viewer.open) told.set("image", found[at].id);
    const hash = String(told);
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  };

  const show = () => {
    list.replaceChildren(...found.slice(0, shown).map((card) => card.node));
    more.hidden = found.length <= shown;
    const all = cards.length.toLocaleString("en");
    $("found").textContent = found.length === cards.length
      ? `${all} images` : `${found.length.toLocaleString("en")} of ${all} images`;
  };

  const apply = () => {
    const wanted = state();
    const order = orders[form.sort.value];
    found = cards.filter((card) => isFit(card, wanted));
    found.sort((a, b) => order(a, b) || a.place - b.place);
    shown = PAGE;
    show();
  };

  const restore = () => {
    const told = new URLSearchParams(location.hash.slice(1));
    form.reset();
    for (const field of form.elements) {
      if (!field.name || !told.has(field.name)) continue;
      if (field.type === "checkbox") field.checked = true;
      else field.value = told.get(field.name);
      if (field.name === "sort" && !field.value) field.value = first;
    }
    apply();
    const place = found.findIndex((card) => card.id === told.get("image") && card.isThere);
    if (place >= 0) open(place);
    else if (viewer.open) viewer.close();
  };

  form.addEventListener("input", () => { apply(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { apply(); remember(); }));
  more.addEventListener("click", () => {
    const next = shown;
    shown += PAGE;
    show();
    found[next].node.querySelector(".stack").focus();
  });

  // ---- one image at full size

  const viewer = $("viewer");
  const canvas = $("canvas");
  const context = canvas.getContext("2d");
  const opacity = $("opacity");
  let at = 0;
  let layers = []; // img elements of the image that is open, the photograph first
  let chosen; // title of the layer that lies over it, kept from image to image; "": none
  let marks = null; // pixels of that layer, if it has the colours of classes

  const names = new Map(); // colour → class
  for (const swatch of document.querySelectorAll(".legend .swatch:not(.c255)")) {
    names.set(getComputedStyle(swatch).backgroundColor, swatch.parentElement.textContent);
  }

  const decoded = async (image) => {
    const copy = new Image(); // images of cards are lazy: they may not have been loaded
    copy.src = image.src;
    await copy.decode();
    return copy;
  };

  const pixels = (image, outlines) => {
    const sheet = new OffscreenCanvas(image.width, image.height);
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    marks = pen.getImageData(0, 0, image.width, image.height);
    if (outlines) {
      const from = new Uint32Array(marks.data.buffer);
      const to = new Uint32Array(from.length);
      for (let i = 0; i < from.length; i += 1) {
        const left = i % image.width ? from[i - 1] : from[i];
        const above = i >= image.width ? from[i - image.width] : from[i];
        if (from[i] !== left) to[i] = from[i] || left;
        else if (from[i] !== above) to[i] = from[i] || above;
      }
      const bytes = new Uint8ClampedArray(to.buffer);
      pen.putImageData(new ImageData(bytes, image.width, image.height), 0, 0);
    }
    return sheet;
  };

  const draw = async () => {
    const card = found[at];
    const over = layers.find((image) => image.alt === chosen);
    const [photo, top] = await Promise.all([layers[0], ...(over ? [over] : [])].map(decoded));
    if (card !== found[at] || over !== layers.find((image) => image.alt === chosen)) return;
    const factor = Math.max(1, Math.round(FULL / Math.max(photo.width, photo.height)));
    canvas.width = photo.width * factor;
    canvas.height = photo.height * factor;
    context.drawImage(photo, 0, 0, canvas.width, canvas.height);
    marks = null;
    if (top) {
      const isMap = over.classList.contains("map");
      context.globalAlpha = Number(opacity.value) / 100;
      context.imageSmoothingEnabled = isMap; // labels have no colours between theirs
      const drawn = isMap ? top : pixels(top, $("outlines").checked);
      context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
      context.imageSmoothingEnabled = true;
    }
    canvas.setAttribute("aria-label", over ? `${over.alt} over ${card.id}` : card.id);
    canvas.dataset.drawn = `${card.id} ${chosen} ${opacity.value} ${$("outlines").checked}`;
  };

  const choose = (title) => {
    chosen = title;
    for (const button of $("layers").children) {
      button.setAttribute("aria-pressed", String(button.value === title));
    }
    $("under").textContent = "\u00a0";
    draw();
  };

  const layerButton = (image, place) => {
    const button = document.createElement("button");
    const key = document.createElement("kbd");
    const picture = new Image();
    button.type = "button";
    button.value = place ? image.alt : "";
    picture.src = image.src;
    picture.alt = "";
    key.textContent = place < 10 ? place : "";
    button.append(picture, key, ` ${place ? image.alt : "photograph"}`);
    button.addEventListener("click", () => choose(button.value));
    return button;
  };

  const quoted = (id) =>
    (/^[\w./][\w./-]*$/.test(id) ? id : `-- '${id.replaceAll("'", "'\\''")}'`);

  const fill = () => {
    const { node, id } = found[at];
    $("title").textContent = id;
    const told = [".facts", ".tags", ".problem", ".reasons"].flatMap((name) => {
      const part = node.querySelector(name);
      return part ? [part.cloneNode(true)] : [];
    });
    $("told").replaceChildren(...told);
    const command = $("explain")?.querySelector("code");
    if (command) {
      command.dataset.start ??= command.textContent;
      command.textContent = `${command.dataset.start} ${quoted(id)}`;
      $("explain").hidden = "altered" in node.dataset; // the id is not what is shown of it
    }
    $("previous").disabled = at === 0;
    $("next").disabled = at === found.length - 1;
    layers = [...node.querySelectorAll("img")];
    $("layers").replaceChildren(...layers.map(layerButton));
    const titles = layers.map((image) => image.alt);
    const isThere = chosen === "" || titles.indexOf(chosen) > 0;
    choose(isThere ? chosen : titles[1] ?? "");
  };

  const go = (step) => {
    let place = at + step;
    while (found[place] && !found[place].isThere) place += step;
    if (!found[place]) return;
    at = place;
    fill();
    remember();
  };

  function open(place) {
    at = place;
    fill();
    if (!viewer.open) viewer.showModal();
    remember();
  }

  const openCard = (target) => {
    const stack = target.closest?.(".stack[role=button]");
    if (!stack) return false;
    open(found.findIndex((card) => card.node === stack.parentElement));
    return true;
  };
  list.addEventListener("click", (event) => openCard(event.target));
  list.addEventListener("keydown", (event) => {
    if (["Enter", " "].includes(event.key) && openCard(event.target)) event.preventDefault();
  });
  viewer.addEventListener("close", () => {
    remember();
    if (!found[at]) return; // the address was changed meanwhile: other images are found
    if (at >= shown) { shown = at + 1; show(); }
    found[at].node.querySelector(".stack").focus();
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  for (const button of document.querySelectorAll("button.close")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("help").addEventListener("click", () => $("keys").showModal());
  $("outlines").addEventListener("change", draw);
  $("zoom").addEventListener("change", () => $("stage").classList.toggle("closer"));
  opacity.addEventListener("input", () => {
    root.style.setProperty("--over", Number(opacity.value) / 100); // of the cards too
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!marks) return;
    const x = Math.floor((event.offsetX / canvas.clientWidth) * marks.width);
    const y = Math.floor((event.offsetY / canvas.clientHeight) * marks.height);
    const [red, green, blue, alpha] = marks.data.subarray(4 * (y * marks.width + x));
    const name = names.get(`rgb(${red}, ${green}, ${blue})`) ?? chosen; // a mask has one colour
    $("under").textContent = alpha === 255 ? name : alpha ? "ignored" : "background";
  });

  // ---- keys

  const slide = (step) => {
    opacity.value = Number(opacity.value) + step;
    opacity.dispatchEvent(new Event("input"));
  };
  const flip = (id) => $(id).click();
  const inViewer = {
    ArrowLeft: () => go(-1),
    ArrowRight: () => go(1),
    0: () => choose(""),
    o: () => flip("outlines"),
    z: () => flip("zoom"),
    "+": () => slide(10),
    "=": () => slide(10),
    "-": () => slide(-10),
  };
  const pick = (key) => {
    const image = layers[Number(key)];
    if (image) choose(image.alt === chosen ? "" : image.alt);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isArrow = event.key.startsWith("Arrow");
    const target = event.target;
    if (target.matches("input:not([type=checkbox], [type=range]), select")) return;
    if (isArrow && (target === opacity || (target.id === "stage" && $("zoom").checked))) return;
    if (event.key === "?" && !$("keys").open) $("keys").showModal();
    else if (viewer.open && !$("keys").open && event.key in inViewer) inViewer[event.key]();
    else if (viewer.open && !$("keys").open && /^[1-9]$/.test(event.key)) pick(event.key);
    else if (event.key === "/" && !viewer.open) form.q.focus();
    else return;
    event.preventDefault();
  });

  list.removeAttribute("tabindex"); // it scrolls no more
  form.hidden = false;
  addEventListener("hashchange", restore);
  restore();
})();
