"use strict";
// web_page.js PAGE SCREENSHOTS: opens the page from disk in headless Chromium; prints its greedy
// story, and to stderr what is wrong with the page. Needs playwright-core (NODE_PATH) and the
// command chromium. Screenshots, to be looked at: light.png, dark.png, phone.png.
const path = require("path");
const { chromium } = require("playwright-core");
const [page_path, out] = process.argv.slice(2);
const url = `file://${path.resolve(page_path)}`;
const timeout = 120000;

function fault(message) {
    console.error(message);
    process.exitCode = 1;
}

async function open(browser, viewport, colorScheme) {
    const page = await browser.newPage({ viewport, colorScheme });
    page.setDefaultTimeout(timeout);
    page.on("console", (m) => fault(`console: ${m.text()}`));
    page.on("pageerror", (e) => fault(`error: ${e.message}`));
    page.on("request", (r) => /^(file|data|blob):/.test(r.url()) || fault(`request: ${r.url()}`));
    await page.goto(url);
    return page;
}

// What a hasty user does: stops at once; too long a beginning, which must not be the last.
async function haste(page) {
    const says = (pattern) => page.waitForFunction((p) => RegExp(p).test(
        document.getElementById("story-status").innerText), pattern);
    await page.evaluate(() => {
        for (let i = 0; i < 2; i++) document.getElementById("tell").click();
    });
    await says("^Stopped: 1 tokens?\\.$");
    await page.fill("#prompt", "\u{1F600}".repeat(150));
    await page.press("#prompt", "Enter");
    await says("^No story: context full");
    await page.fill("#prompt", "<i>");
    await page.press("#prompt", "Enter");
    await says("^The story has ended");
    if (!(await page.textContent("#story")).startsWith("<i>")) fault("<i> became markup");
}

// Decodes in turn until the curves have some points; stops by the keyboard.
async function compare(page, name) {
    await page.waitForSelector("#run:enabled");
    await page.focus("#run");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll("#speed circle").length > 17);
    await page.keyboard.press("Enter");
    await page.waitForFunction(
        () => /^With /.test(document.querySelector("#run-status").innerText));
    for (const chart of ["speed", "cache"])
        for (const variant of ["mha", "gqa", "mqa"])
            if (await page.locator(`#${chart} .${variant} .curve`).count() !== 1)
                fault(`${name}: no curve ${variant} in ${chart}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wide > 0) fault(`${name}: ${wide} pixels too wide`);
    await page.screenshot({ path: path.join(out, `${name}.png`), fullPage: true });
}

async function main() {
    const args = ["--no-sandbox"];
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
    const desk = { width: 1100, height: 900 };
    const light = await open(browser, desk, "light");
    await light.waitForFunction(
        () => /ended/.test(document.querySelector("#story-status").innerText));
    process.stdout.write(await light.textContent("#story") + "\n");
    await haste(light);
    await compare(light, "light");
    await compare(await open(browser, desk, "dark"), "dark");
    await compare(await open(browser, { width: 390, height: 844 }, "light"), "phone");
    const old = await browser.newPage();
    await old.addInitScript(() => { WebAssembly.validate = () => false; });
    await old.goto(url);
    if (!/no WebAssembly SIMD/.test(await old.textContent("#problem")))
        fault("without WebAssembly SIMD the page does not say so");
    await browser.close();
}

main().catch((error) => {
    fault(error.message);
    process.exit(1);
});
