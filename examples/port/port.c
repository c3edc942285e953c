/* Three operators of ssm_manual in C99, proved against its test vectors.
 *
 *     ssm-manual vectors DIR tustin scan mse
 *     cc -std=c99 -O2 -o port port.c -lm && ./port DIR
 *
 * Prints the worst error of each array of each op; the exit status is 1 if one is above 1e-9.
 * The first half reads .npz files, the second is the port: each gradient under its formula.
 * Gradients of a complex z are dL/dRe z + i dL/dIm z, so that each factor is conjugated.
 */
#include <complex.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef double complex cplx;
typedef struct { int ndim, real; long shape[4], size; cplx *data; } Array; /* real: of real numbers */

/* ------------------------------------------------------------------------------- reading .npz */

static unsigned char *file;
static long length;

static void die(const char *what) { fprintf(stderr, "port: %s\n", what); exit(2); }

static uint32_t little(long at, int bytes) { /* a number of the zip, low byte first */
    uint32_t n = 0;
    if (at < 0 || at + bytes > length) die("the file ends too early");
    while (bytes--) n = n << 8 | file[at + bytes];
    return n;
}

static void load(const char *folder, const char *op) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.npz", folder, op);
    FILE *f = fopen(path, "rb");
    if (!f) { perror(path); exit(2); }
    fseek(f, 0, SEEK_END);
    length = ftell(f);
    rewind(f);
    free(file);
    file = malloc(length);
    if (!file || fread(file, 1, length, f) != (size_t)length) die("cannot read the file");
    fclose(f);
}

static Array npy(long at) { /* magic, version, length of the header, header, numbers */
    Array a = {0};
    char header[1024], *p;
    uint32_t n = little(at + 8, 2);
    if (n >= sizeof header || memcmp(file + at, "\x93NUMPY\x01", 7)) die("no .npy of version 1");
    little(at + 10, n); /* within the file */
    memcpy(header, file + at + 10, n);
    header[n] = 0;
    if (!strstr(header, "'fortran_order': False") || !(p = strstr(header, "'shape': (")))
        die("not in C order");
    for (p += 10, a.size = 1; *p != ')'; p += strcspn(p, "0123456789)")) {
        if (a.ndim == 4) die("more than four axes");
        a.size *= a.shape[a.ndim++] = strtol(p, &p, 10);
    }
    const char *type = strstr(header, "'descr': '") + 10;
    int bytes = !strncmp(type, "<c16", 4) ? 16 : !strncmp(type, "<f8", 3) ? 8 : 1;
    if (bytes == 1 && strncmp(type, "|b1", 3)) die("neither double precision nor a flag");
    a.real = bytes < 16;
    a.data = malloc((a.size + 1) * sizeof(cplx));
    at += 10 + n;
    if (!a.data || at + a.size * bytes > length) die("the array ends too early");
    for (long i = 0; i < a.size; i++, at += bytes) {
        double z[2] = {0, 0}; /* this machine must be little endian, as the file is */
        if (bytes == 1) z[0] = file[at];
        else memcpy(z, file + at, bytes);
        a.data[i] = z[0] + I * z[1];
    }
    return a;
}

static int find(Array *a, int k, const char *kind, const char *name) { /* k/kind/name.npy */
    char wanted[128];
    snprintf(wanted, sizeof wanted, "%d/%s/%s.npy", k, kind, name);
    long end = length - 22; /* the zip's directory stands before its last record */
    while (end >= 0 && memcmp(file + end, "PK\5\6", 4)) end--;
    long at = little(end + 16, 4);
    for (int n = little(end + 10, 2); n > 0; n--) {
        uint32_t size = little(at + 28, 2), local = little(at + 42, 4);
        little(at + 46, size); /* within the file */
        if (size == strlen(wanted) && !memcmp(file + at + 46, wanted, size)) {
            if (little(at + 10, 2)) die("the file is compressed");
            *a = npy(local + 30 + little(local + 26, 2) + little(local + 28, 2));
            return 1;
        }
        at += 46 + size + little(at + 30, 2) + little(at + 32, 2);
    }
    return 0;
}

static Array get(int k, const char *kind, const char *name) {
    Array a;
    if (!find(&a, k, kind, name)) die("an array is missing");
    return a;
}

/* ------------------------------------------------------------------------------------- judging */

static int failed, compared;
static double worst;

static Array like(Array a) { /* zeros of a's shape */
    a.data = calloc(a.size + 1, sizeof(cplx));
    return a;
}

static void compare(Array mine, int k, const char *kind, const char *name) {
    Array theirs = get(k, kind, name);
    compared++;
    double error = 0, norm = 0;
    if (mine.size != theirs.size) die("an array has another size");
    for (long i = 0; i < mine.size; i++) { /* of a real argument the gradient is real */
        cplx z = theirs.real ? creal(mine.data[i]) : mine.data[i];
        error += pow(cabs(z - theirs.data[i]), 2);
        norm += pow(cabs(theirs.data[i]), 2);
    }
    error = norm > 0 ? sqrt(error / norm) : error > 0 ? INFINITY : error; /* zero is met exactly */
    if (!(error <= worst)) worst = error;
    if (!(error <= 1e-9)) {
        printf("case %d, %s/%s: relative error %g\n", k, kind, name, error);
        failed = 1;
    }
}

/* ----------------------------------------------------------------------------------- operators */

static long under(Array a, Array all, long i) { /* where element i of `all` lies in a smaller a */
    long at = 0, stride = 1;
    for (int d = all.ndim - 1, e = a.ndim - 1; e >= 0; d--, e--) {
        long n = i % all.shape[d];
        i /= all.shape[d];
        if (a.shape[e] > 1) at += n * stride;
        stride *= a.shape[e];
    }
    return at;
}

/* A_bar = (1 + dt A / 2) / d,  B_bar = dt B / d,  d = 1 - dt A / 2 */
static void tustin(int k) {
    Array A = get(k, "in", "A"), B = get(k, "in", "B"), dt = get(k, "in", "dt");
    Array g = get(k, "cotangent", "0"), h = get(k, "cotangent", "1");
    Array A_bar = like(g), B_bar = like(h), gA = like(A), gB = like(B), gdt = like(dt);
    for (long i = 0; i < g.size; i++) {
        long a = under(A, g, i), t = under(dt, g, i);
        cplx s = dt.data[t], d = 1 - s * A.data[a] / 2;
        A_bar.data[i] = (1 + s * A.data[a] / 2) / d;
        gA.data[a] += conj(s / (d * d)) * g.data[i];
        gdt.data[t] += conj(A.data[a] / (d * d)) * g.data[i];
    }
    for (long i = 0; i < h.size; i++) {
        long a = under(A, h, i), b = under(B, h, i), t = under(dt, h, i);
        cplx s = dt.data[t], d = 1 - s * A.data[a] / 2;
        B_bar.data[i] = s * B.data[b] / d;
        gA.data[a] += conj(s * s * B.data[b] / (2 * d * d)) * h.data[i];
        gB.data[b] += conj(s / d) * h.data[i];
        gdt.data[t] += conj(B.data[b] / (d * d)) * h.data[i];
    }
    compare(A_bar, k, "out", "0"), compare(B_bar, k, "out", "1");
    compare(gA, k, "grad", "A"), compare(gB, k, "grad", "B"), compare(gdt, k, "grad", "dt");
}

/* x_t = A x_{t-1} + B u_t,  y_t = 2 Re(sum C x_t) + D u_t;  without `real`, no 2 Re.
 * Backwards, lambda_L = dL/dx_last:  lambda_t += 2 conj(C) g_t;  then lambda_{t-1} = conj(A) lambda_t */
static void scan(int k) {
    Array A = get(k, "in", "A_bar"), B = get(k, "in", "B_bar"), C = get(k, "in", "C"), D, x0, flag;
    Array u = get(k, "in", "u"), g = get(k, "cotangent", "0"), last = get(k, "cotangent", "1");
    int has_D = find(&D, k, "in", "D"), has_x0 = find(&x0, k, "in", "x0");
    int real = find(&flag, k, "option", "real") ? creal(flag.data[0]) != 0 : 1;
    long H = u.shape[1], L = u.shape[2], N = last.shape[2], rows = u.shape[0] * H;
    double two = real ? 2 : 1;
    Array y = like(g), after = like(last), before = like(last);
    Array gA = like(A), gB = like(B), gC = like(C), gD = has_D ? like(D) : A, gu = like(u);
    cplx *x = malloc((L + 1) * sizeof(cplx)); /* the states of one mode, from x0 on */
    for (long r = 0; r < rows; r++) {
        long d = has_D && D.size > 1 ? r % H : 0; /* parameters may be shared by the channels */
        cplx *U = u.data + r * L, *Y = y.data + r * L, *G = g.data + r * L, *GU = gu.data + r * L;
        for (long n = 0; n < N; n++) {
            long i = r * N + n, a = under(A, last, i), b = under(B, last, i), c = under(C, last, i);
            x[0] = has_x0 ? x0.data[i] : 0;
            for (long t = 0; t < L; t++) {
                x[t + 1] = A.data[a] * x[t] + B.data[b] * U[t];
                Y[t] += two * (real ? creal(C.data[c] * x[t + 1]) : C.data[c] * x[t + 1]);
            }
            after.data[i] = x[L];
            cplx lambda = last.data[i];
            for (long t = L - 1; t >= 0; t--) {
                gC.data[c] += two * conj(x[t + 1]) * G[t];
                lambda += two * conj(C.data[c]) * G[t];
                gA.data[a] += conj(x[t]) * lambda;
                gB.data[b] += conj(U[t]) * lambda;
                GU[t] += conj(B.data[b]) * lambda;
                lambda *= conj(A.data[a]);
            }
            before.data[i] = lambda;
        }
        for (long t = 0; has_D && t < L; t++) {
            Y[t] += D.data[d] * U[t];
            gD.data[d] += conj(U[t]) * G[t];
            GU[t] += conj(D.data[d]) * G[t];
        }
    }
    compare(y, k, "out", "0"), compare(after, k, "out", "1");
    compare(gA, k, "grad", "A_bar"), compare(gB, k, "grad", "B_bar"), compare(gC, k, "grad", "C");
    compare(gu, k, "grad", "u");
    if (has_D) compare(gD, k, "grad", "D");
    if (has_x0) compare(before, k, "grad", "x0");
    free(x);
}

/* loss = (1/n) sum |p - t|^2;  to p: 2 (p - t) / n times the cotangent, to t: its negative */
static void mse(int k) {
    Array p = get(k, "in", "prediction"), t = get(k, "in", "target"), g = get(k, "cotangent", "0");
    Array loss = like(g), gp = like(p), gt = like(t);
    for (long i = 0; i < p.size; i++) {
        cplx e = p.data[i] - t.data[i];
        loss.data[0] += (creal(e) * creal(e) + cimag(e) * cimag(e)) / p.size;
        gp.data[i] = 2 * e / p.size * g.data[0];
        gt.data[i] = -gp.data[i];
    }
    compare(loss, k, "out", "0");
    compare(gp, k, "grad", "prediction"), compare(gt, k, "grad", "target");
}

int main(int argc, char **argv) {
    struct { const char *name, *first; void (*run)(int); } ops[] = {
        {"tustin", "A", tustin}, {"scan", "u", scan}, {"mse", "target", mse}};
    if (argc != 2) die("give the folder that ssm-manual vectors has written");
    for (int i = 0; i < 3; i++) {
        Array any;
        int k = 0;
        load(argv[1], ops[i].name);
        for (worst = compared = 0; find(&any, k, "in", ops[i].first); k++) ops[i].run(k);
        if (!k) die("there are no cases");
        printf("%-8s %3d cases, %3d arrays, worst relative error %.1e\n", ops[i].name, k, compared, worst);
    }
    puts(failed ? "FAILED" : "all pass");
    return failed;
}
