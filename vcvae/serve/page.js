// One play position for source, target and conversion: 1, 2, 3 choose, space plays. And the live conversion.
window.vcvae = {
  players: () => [...document.querySelectorAll("audio.compared")],
  chosen: 0,
  choose(index) {
    const players = this.players();
    if (!players[index]) return;
    const before = players[this.chosen], after = players[index];
    const plays = before && !before.paused, time = before ? before.currentTime : 0;
    players.forEach((player) => player.pause());
    after.currentTime = Math.min(time, after.duration || 0);
    this.chosen = index;
    document.querySelectorAll("button.compared").forEach((b, i) => b.setAttribute("aria-pressed", i === index));
    if (plays) after.play();
  },
  toggle() {
    const player = this.players()[this.chosen];
    if (player) player.paused ? player.play() : player.pause();
  },
  async live(token, voice, shift, show) {
    if (this.stop) { this.stop(); return; }
    if (!voice) { show("Make a voice first, in the tab Voices."); return; }
    const context = new AudioContext({ sampleRate: 22050 });
    let microphone;
    try {
      microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    } catch (error) { show("The microphone cannot be used: " + error.message); context.close(); return; }
    const source = `registerProcessor("vcvae", class extends AudioWorkletProcessor {
      constructor() { super(); this.queue = []; this.start = 0; this.filled = 0; this.plays = false; this.block = [];
        this.port.onmessage = (e) => { this.queue.push(e.data); this.filled += e.data.length; }; }
      process(inputs, outputs) {
        const taken = inputs[0][0], out = outputs[0][0];
        if (taken) this.block.push(...taken);
        if (this.block.length >= 1024) { this.port.postMessage(new Float32Array(this.block)); this.block = []; }
        if (this.filled > 4096) this.plays = true;
        if (this.filled < out.length) this.plays = false;
        for (let i = 0; this.plays && i < out.length; i++) {
          out[i] = this.queue[0][this.start++]; this.filled--;
          if (this.start === this.queue[0].length) { this.queue.shift(); this.start = 0; }
        }
        return true;
      } });`;
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    const node = new AudioWorkletNode(context, "vcvae");
    const address = new URL("api/live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ session: token, voice, pitch_shift: shift, rate: context.sampleRate });
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    let received = 0, peak = 0;
    socket.onmessage = (e) => {
      const samples = new Float32Array(e.data);
      received += samples.length;
      for (const x of samples) peak = Math.max(peak, Math.abs(x));
      this.received = received; this.peak = peak;
      show(`live: ${(received / context.sampleRate).toFixed(1)} s converted`);
      if (samples.length) node.port.postMessage(samples);
    };
    node.port.onmessage = (e) => socket.readyState === 1 && socket.send(e.data.buffer);
    socket.onopen = () => context.createMediaStreamSource(microphone).connect(node).connect(context.destination);
    this.stop = () => {
      this.stop = null;
      microphone.getTracks().forEach((track) => track.stop());
      socket.close(); context.close(); show("stopped");
    };
    socket.onclose = (e) => { if (this.stop) { this.stop(); show(e.reason || "the connection ended"); } };
  },
};
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea, select, [contenteditable]")) return;
  if ("123".includes(event.key)) vcvae.choose(Number(event.key) - 1);
  else if (event.key === " " && vcvae.players().length) { event.preventDefault(); vcvae.toggle(); }
});
