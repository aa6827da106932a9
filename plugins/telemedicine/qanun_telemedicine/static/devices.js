// Camera, microphone, loudspeaker and network of this device: opening them, and plain words for what is wrong.

const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" };
const RELAY_MS = 6000;
const SUSPENDED_MS = 1500;

/** What went wrong, as a code that the page has words for. */
function fault(error) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "blocked";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "failed";
  }
}

/** The device's stream, with whatever it has. `faults` says what is missing: { audio: code, video: code }. */
export async function openDevices({ video = true } = {}) {
  if (!navigator.mediaDevices?.getUserMedia) return { stream: null, faults: { audio: "insecure", video: "insecure" } };
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  const open = (wanted) => navigator.mediaDevices.getUserMedia(wanted);
  if (video) {
    try {
      return { stream: await open({ audio, video: VIDEO }), faults: {} };
    } catch {
      // One of the two, then: which, the next attempts tell.
    }
  }
  const faults = {};
  let stream = null;
  try {
    stream = await open({ audio });
  } catch (error) {
    faults.audio = fault(error);
  }
  if (video) {
    try {
      const camera = await open({ video: VIDEO });
      if (stream) stream.addTrack(camera.getVideoTracks()[0]);
      else stream = camera;
    } catch (error) {
      faults.video = fault(error);
    }
  }
  return { stream, faults };
}

/** Cameras besides the one that is open. */
export async function otherCameras(stream) {
  const mine = stream?.getVideoTracks()[0]?.getSettings().deviceId;
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  return all.filter((one) => one.kind === "videoinput" && one.deviceId && one.deviceId !== mine);
}

export function closeStream(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/**
 * Calls `show(level)` with 0..1 several times a second until the returned function is called; `show(null)` when the
 * browser lets nobody measure (an AudioContext may stay suspended for ever: nothing here waits for it).
 */
export function meter(stream, show) {
  const Context = globalThis.AudioContext ?? globalThis.webkitAudioContext;
  if (!Context || !stream?.getAudioTracks().length) {
    show(null);
    return () => {};
  }
  const context = new Context();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(stream).connect(analyser);
  context.resume().catch(() => {});
  const wake = () => context.resume().catch(() => {});
  addEventListener("pointerdown", wake);
  const samples = new Uint8Array(analyser.fftSize);
  const began = performance.now();
  const timer = setInterval(() => {
    if (context.state !== "running") {
      if (performance.now() - began > SUSPENDED_MS) show(null);
      return;
    }
    analyser.getByteTimeDomainData(samples);
    let sum = 0;
    for (const sample of samples) sum += ((sample - 128) / 128) ** 2;
    show(Math.min(1, Math.sqrt(sum / samples.length) * 5));
  }, 120);
  return () => {
    clearInterval(timer);
    removeEventListener("pointerdown", wake);
    context.close().catch(() => {});
  };
}

/** A short sound to check the loudspeaker with; false when this browser makes none. */
export function chime() {
  const Context = globalThis.AudioContext ?? globalThis.webkitAudioContext;
  if (!Context) return false;
  const context = new Context();
  for (const [at, pitch] of [[0, 660], [0.18, 880]]) {
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0.0001, context.currentTime + at);
    volume.gain.exponentialRampToValueAtTime(0.25, context.currentTime + at + 0.03);
    volume.gain.exponentialRampToValueAtTime(0.0001, context.currentTime + at + 0.4);
    tone.connect(volume).connect(context.destination);
    tone.start(context.currentTime + at);
    tone.stop(context.currentTime + at + 0.45);
  }
  setTimeout(() => context.close().catch(() => {}), 1500);
  return true;
}

/** Whether the clinic's relay answers: true, false, or null when there is none. No media flows. */
export async function relayAnswers(iceServers) {
  if (!iceServers?.length || !globalThis.RTCPeerConnection) return null;
  const peer = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
  try {
    peer.createDataChannel("check");
    const found = new Promise((resolve) => {
      peer.addEventListener("icecandidate", (event) => {
        if (event.candidate?.candidate) resolve(true);
        else if (event.candidate === null) resolve(false);
      });
      setTimeout(() => resolve(false), RELAY_MS);
    });
    await peer.setLocalDescription(await peer.createOffer());
    return await found;
  } finally {
    peer.close();
  }
}
