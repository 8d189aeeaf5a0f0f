// The rater's page: enter by the link, then pair after pair until nothing is left. What is chosen is kept in the
// browser until the server has confirmed it, so that neither a reload nor a server that is gone loses it.

import { Player } from "./player.js";
import { Refused, Server } from "./server.js";

const DRAFT = "latentshift-study";
const LOOK_AGAIN = 20000; // ms, while others hold the last pairs
const SIDES = ["left", "right"];
const NAMES = { left: "Left", neither: "Can’t tell", right: "Right" };
const KEYS = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", ArrowDown: "neither", 3: "neither" };

const $ = (id) => document.getElementById(id);

let study = null; // the server's last reply
let draft = null; // { study, pair, sides, seconds, replays, sent } of the pair that is shown
let shownAt = 0;
let watched = false;
let sending = false;
let lookAgain = 0; // timer

const server = new Server((seconds) => {
  $("trouble").hidden = seconds === null;
  if (seconds === null) return;
  const kept = draft?.sent ? " Your answer is kept." : "";
  setText("trouble-text", `The study’s server can’t be reached.${kept} Trying again in ${seconds} s.`);
});

const player = new Player({
  onShape(shape) {
    document.documentElement.style.setProperty("--shape", Math.min(Math.max(shape, 0.5), 2));
    document.body.classList.toggle("flat", shape > 1.2);
  },
  onWatched() {
    if (watched) return;
    watched = true;
    enableAnswers();
    say("You can answer now.");
  },
  onBlocked() {
    showPause();
    setText("hint", "Your browser does not start videos by itself: press Play.");
  },
});

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function say(text) {
  $("status").textContent = text;
}

function show(section) {
  for (const id of ["message", "intro", "pair"]) $(id).hidden = id !== section;
  if (section !== "pair") player.clear();
}

function showMessage(title, text, { button = null, onButton = null, code = null } = {}) {
  show("message");
  setText("message-title", title);
  setText("message-text", text);
  $("message-code").hidden = code === null;
  setText("code", code ?? "");
  $("message-button").hidden = button === null;
  setText("message-button", button ?? "");
  $("message-button").onclick = onButton;
  document.title = title;
  $("message-title").focus();
}

function saveDraft() {
  try {
    if (draft) localStorage.setItem(DRAFT, JSON.stringify({ ...draft, seconds: secondsSpent() }));
    else localStorage.removeItem(DRAFT);
  } catch {
    // a browser that keeps nothing: a reload then asks again
  }
}

function loadDraft() {
  try {
    return JSON.parse(localStorage.getItem(DRAFT));
  } catch {
    return null;
  }
}

function secondsSpent() {
  return draft.sent ? draft.seconds : draft.seconds + (shownAt ? (performance.now() - shownAt) / 1000 : 0);
}

async function enter() {
  const token = location.hash.slice(1);
  if (token) {
    await server.post("api/enter", { token });
    history.replaceState(null, "", location.pathname + location.search);
  }
}

/** Ask for the pair to answer now, and show it, or why there is none. */
async function next() {
  clearTimeout(lookAgain);
  study = await server.post("api/next");
  const { pair, answered, available, waiting } = study;
  $("progress").max = Math.max(answered + available + waiting, 1);
  $("progress").value = answered;
  setText("count", `Pair ${answered + 1}`);
  document.body.classList.toggle("no-cant-tell", !study.cant_tell);
  for (const row of document.querySelectorAll(".cant-tell")) row.hidden = !study.cant_tell;
  if (pair) {
    const kept = loadDraft();
    const same = kept?.study === study.study && kept?.pair === pair.id;
    draft = same ? kept : { study: study.study, pair: pair.id, sides: {}, seconds: 0, replays: 0, sent: false };
    if (draft.sent) return send(); // its confirmation never came
    if (answered === 0 && !same && $("pair").hidden && $("intro").dataset.read !== "yes") {
      show("intro");
      $("intro-title").focus();
      return;
    }
    return showPair();
  }
  draft = null;
  saveDraft();
  if (available + waiting > 0) {
    showMessage(
      "No pair is free at the moment",
      "Others are answering the last ones. This page looks again by itself; you may also come back later.",
      { button: "Look now", onButton: () => run(next) },
    );
    lookAgain = setTimeout(() => run(next), LOOK_AGAIN);
    return;
  }
  const pairs = answered === 1 ? "1 pair" : `${answered} pairs`;
  showMessage("All done, thank you!", answered
    ? `You answered ${pairs}, and there are no more for you. You can close this page.`
    : "Others have answered all pairs already. You can close this page.", { code: answered ? study.rater : null });
}

async function showPair() {
  const { pair } = study;
  watched = false;
  shownAt = performance.now();
  show("pair");
  document.title = `Pair ${study.answered + 1}: which video is better?`;
  setText("prompt", pair.prompt);
  setText("hint", "Loading the videos …");
  makeQuestions();
  saveDraft();
  say("");
  scrollTo(0, 0);
  $("prompt").focus({ preventScroll: true });
  try {
    const shown = player.show(SIDES.map($), SIDES.map((side) => pair[side]), ["Left video", "Right video"]);
    showPause();
    if (!watched) setText("hint", "Watch both videos to the end first.");
    await shown;
  } catch {
    await showBrokenClip(pair);
  }
}

/** A clip that did not load: the server is gone, or the pair went to another rater, or the browser can't play it. */
async function showBrokenClip(pair) {
  const statuses = await Promise.all(SIDES.map((side) => server.statusOf(pair[side].url)));
  if (study.pair !== pair || $("pair").hidden) return;
  if (statuses.some((status) => status === null || (status >= 400 && status < 500))) {
    return run(next); // waits until the server is there
  }
  showMessage(
    "A video can’t be shown",
    "Your browser can’t play one of the two videos. Please try again, or use a current Chrome, Edge, Firefox or Safari.",
    { button: "Try again", onButton: () => run(next) },
  );
}

function makeQuestions() {
  const options = study.cant_tell ? ["left", "neither", "right"] : SIDES;
  const keys = { left: "1", right: "2", neither: "3" };
  $("questions").replaceChildren(...study.questions.map((question, number) => {
    const set = document.createElement("fieldset");
    set.disabled = true;
    set.tabIndex = -1;
    set.dataset.question = question.name;
    set.addEventListener("focusin", () => setCurrent(set));
    const legend = document.createElement("legend");
    legend.textContent = question.text;
    legend.dir = "auto";
    const choices = document.createElement("div");
    choices.className = "choices";
    choices.append(...options.map((side) => {
      const label = document.createElement("label");
      label.className = "choice";
      const input = Object.assign(document.createElement("input"), { type: "radio", name: `question-${number}`, value: side });
      input.checked = draft.sides[question.name] === side;
      input.addEventListener("change", () => choose(set, side));
      const text = document.createElement("span");
      const key = document.createElement("kbd");
      key.textContent = keys[side];
      key.setAttribute("aria-hidden", "true");
      text.append(NAMES[side], key);
      label.append(input, text);
      return label;
    }));
    set.append(legend, choices);
    return set;
  }));
  setCurrent(firstUnanswered() ?? sets()[0]);
  updateSend();
}

function sets() {
  return [...$("questions").children];
}

function firstUnanswered() {
  return sets().find((set) => !(set.dataset.question in draft.sides));
}

function setCurrent(set) {
  for (const each of sets()) each.classList.toggle("current", each === set);
}

function enableAnswers() {
  for (const set of sets()) set.disabled = false;
  setText("hint", "");
  updateSend();
}

function updateSend() {
  $("send").disabled = !watched || sending || firstUnanswered() !== undefined;
}

function choose(set, side) {
  draft.sides[set.dataset.question] = side;
  set.querySelector(`input[value="${side}"]`).checked = true;
  setCurrent(firstUnanswered() ?? set);
  saveDraft();
  updateSend();
}

/** Send the draft, and go on when the server has confirmed that it is stored. */
async function send() {
  sending = true;
  if (!draft.sent) draft = { ...draft, seconds: Math.round(secondsSpent() * 100) / 100, sent: true };
  saveDraft();
  updateSend();
  try {
    const { pair, sides, seconds, replays } = draft;
    await server.post("api/answer", { pair, sides, seconds, replays });
    draft = null;
    saveDraft();
  } catch (error) {
    if (!(error instanceof Refused) || error.status === 401) throw error;
    // Too slow, so that another rater has the pair; or answered in another window. The answer would never be taken.
    draft = null;
    saveDraft();
    say(error.message);
  } finally {
    sending = false;
  }
  await next();
}

function showPause() {
  $("pause").hidden = !player.canPause;
  $("pause").firstChild.data = player.paused ? "Play " : "Pause ";
}

function replay() {
  draft.replays += 1;
  saveDraft();
  player.start();
  showPause();
}

function togglePause() {
  if (player.paused) {
    player.resume();
    if (!watched) setText("hint", "Watch both videos to the end first.");
  } else player.pause();
  showPause();
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const { key, target } = event;
  if ($("pair").hidden || sending) return;
  const current = $("questions").querySelector(".current");
  const onControl = target.closest("button, input, a");
  const done = () => event.preventDefault();
  if (key === " " && (!onControl || (target.type === "radio" && target.checked))) {
    done();
    replay();
  } else if ((key === "r" || key === "R")) {
    replay();
  } else if ((key === "p" || key === "P") && player.canPause) {
    togglePause();
  } else if (key === "Enter" && (!onControl || target.type === "radio")) {
    done();
    if (!$("send").disabled) run(send);
  } else if (key === "ArrowUp") {
    done();
    setCurrent(current.previousElementSibling ?? current);
    if (target.type === "radio") $("questions").querySelector(".current").focus();
  } else if (key in KEYS) {
    done();
    if (KEYS[key] === "neither" && !study.cant_tell) return;
    if (!watched) return say("Watch both videos to the end first.");
    choose(current, KEYS[key]);
    if (target.type === "radio") $("questions").querySelector(".current").focus();
  }
}

/** Do one of the steps above, and say what went wrong. */
async function run(step) {
  try {
    await step();
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      showMessage("Please open the link that you were sent", "This page has to be opened by the whole link of the study, "
        + "and your browser must accept cookies from it.");
    } else {
      console.error(error);
      showMessage("Something went wrong", error.message || String(error), { button: "Try again", onButton: () => run(next) });
    }
  }
}

$("start").onclick = () => {
  $("intro").dataset.read = "yes";
  run(showPair);
};
$("retry").onclick = () => server.tryNow();
$("replay").onclick = replay;
$("pause").onclick = togglePause;
$("form").onsubmit = (event) => {
  event.preventDefault();
  if (!$("send").disabled) run(send);
};
addEventListener("keydown", onKey);
addEventListener("pagehide", () => draft && saveDraft());
run(async () => {
  await enter();
  await next();
});
