// Moments in the viewer's own zone, with UTC where the pointer rests. Without scripts they are UTC.
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || ["UTC", "Etc/UTC", "GMT"].includes(zone)) return;
  const two = (number) => String(number).padStart(2, "0");
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.title = `${time.textContent} (UTC)`;
    const day = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
    time.textContent = `${day} ${two(moment.getHours())}:${two(moment.getMinutes())}`;
  }
  const told = document.getElementById("zone");
  told.textContent = `Times of day: ${zone.replace("_", " ")}`;
  told.title = "UTC is shown where the pointer rests on a time";
  told.hidden = false;
})();
