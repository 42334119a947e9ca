// Server-sent events that come back: a browser gives up an EventSource for good once it was refused, as every page is
// that comes back before the database does.

const AGAIN_MS = 3000;

export class Line {
  // `events`: name -> act(data). `onDown()` at each interruption, `onBack()` when it is over.
  constructor(address, events, { onDown, onBack }) {
    [this.address, this.events, this.onDown, this.onBack] = [address, events, onDown, onBack];
    this.down = false;
    this.connect();
  }

  connect() {
    const source = (this.source = new EventSource(this.address));
    for (const [name, act] of Object.entries(this.events)) source.addEventListener(name, (message) => act(JSON.parse(message.data)));
    source.onopen = () => {
      if (this.down) this.onBack();
      this.down = false;
    };
    source.onerror = () => {
      this.down = true;
      this.onDown();
      if (source.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.connect(), AGAIN_MS);
    };
  }

  close() {
    clearTimeout(this.timer);
    this.source.close();
  }
}
