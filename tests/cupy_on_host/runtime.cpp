// A HIP runtime, hiprtc and the hipBLAS gemms on the host: memory is malloc, kernels are compiled by g++.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cstdint>
#include <string>
#include <vector>
#include <regex>
#include <fstream>
#include <sstream>
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
#include <sys/wait.h>
typedef int E; typedef void* P; struct dim3 { unsigned x, y, z; };
static const char* DIR() { const char* d = getenv("CUPY_ON_HOST"); if (!d) { fprintf(stderr, "cupy_on_host: source env.sh first\n"); _exit(70); } return d; }
static bool LOG() { static int v = getenv("CUPY_ON_HOST_LOG") ? 1 : 0; return v; }
static long n_launch, n_compile, n_gemm, n_sync, n_d2h, n_malloc;
extern "C" {
void cupy_on_host_counts(long* o) { long v[] = {n_launch, n_compile, n_gemm, n_sync, n_d2h, n_malloc}; memcpy(o, v, sizeof v); }
const char* hipGetErrorName(E e) { return "hipErrorFake"; }
const char* hipGetErrorString(E e) { return "not implemented by the host stand-in"; }
E hipGetLastError() { return 0; } E hipPeekAtLastError() { return 0; }
E hipDriverGetVersion(int* v) { *v = 70000000; return 0; } E hipRuntimeGetVersion(int* v) { *v = 70000000; return 0; }
E hipGetDevice(int* d) { *d = 0; return 0; } E hipSetDevice(int) { return 0; } E hipGetDeviceCount(int* c) { *c = 1; return 0; }
E hipDeviceGetAttribute(int* p, int a, int) { *p = a == 23 ? 9 : a == 61 ? 0 : a == 87 ? 64 : 1024; if (LOG()) fprintf(stderr, "attr %d\n", a); return 0; }
E hipGetDevicePropertiesR0600(char* p, int) { memset(p, 0, 1472); strcpy(p, "host stand-in"); return 0; }
E hipDeviceSynchronize() { n_sync++; return 0; }
E hipDeviceGetPCIBusId(char* p, int, int) { strcpy(p, "0000:00:00.0"); return 0; }
E hipMalloc(P* p, size_t n) { if (n > (size_t)8 << 30) return 2; n_malloc++; *p = aligned_alloc(512, (n + 511) / 512 * 512); memset(*p, 0xA5, n); return 0; } E hipFree(P p) { free(p); return 0; }
E hipHostMalloc(P* p, size_t n, unsigned) { return hipMalloc(p, n); } E hipHostFree(P p) { free(p); return 0; }
E hipMallocManaged(P* p, size_t n, unsigned) { return hipMalloc(p, n); }
E hipMemGetInfo(size_t* f, size_t* t) { *f = *t = (size_t)8 << 30; return 0; }
E hipMemcpy(P d, P s, size_t n, int k) { memmove(d, s, n); n_d2h += k == 2; return 0; }
E hipMemcpyAsync(P d, P s, size_t n, int k, P) { return hipMemcpy(d, s, n, k); }
E hipMemset(P d, int v, size_t n) { memset(d, v, n); return 0; } E hipMemsetAsync(P d, int v, size_t n, P) { return hipMemset(d, v, n); }
E hipPointerGetAttributes(int* a, P p) { memset(a, 0, 32); a[0] = 2; *(P*)(a + 2) = p; return 0; }
E hipStreamCreate(P* s) { *s = malloc(8); return 0; } E hipStreamCreateWithFlags(P* s, unsigned) { return hipStreamCreate(s); } E hipStreamCreateWithPriority(P* s, unsigned, int) { return hipStreamCreate(s); }
E hipStreamDestroy(P) { return 0; } E hipStreamSynchronize(P) { n_sync++; return 0; } E hipStreamQuery(P) { return 0; } E hipStreamWaitEvent(P, P, unsigned) { return 0; }
E hipStreamIsCapturing(P, int* s) { *s = 0; return 0; }
E hipEventCreate(P* e) { *e = calloc(1, 8); return 0; } E hipEventCreateWithFlags(P* e, unsigned) { return hipEventCreate(e); } E hipEventDestroy(P e) { free(e); return 0; }
static double now() { timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e3 + t.tv_nsec * 1e-6; }
E hipEventRecord(P e, P) { *(double*)e = now(); return 0; } E hipEventSynchronize(P) { n_sync++; return 0; } E hipEventQuery(P) { return 0; }
E hipEventElapsedTime(float* ms, P a, P b) { *ms = *(double*)b - *(double*)a; return 0; }
E hipLaunchKernel(P, dim3, dim3, P*, size_t, P) { fprintf(stderr, "cupy_on_host: precompiled kernel launched: no host version exists, stopping\n"); _exit(70); return 801; }
// ---- hiprtc
struct Prog { std::string src, log, code; std::vector<std::string> names; };
const char* hiprtcGetErrorString(E e) { return "compile error"; } E hiprtcVersion(int* a, int* b) { *a = 7; *b = 0; return 0; }
E hiprtcCreateProgram(P* p, const char* s, const char*, int, const char**, const char**) { auto q = new Prog; q->src = s; *p = q; return 0; }
E hiprtcDestroyProgram(P* p) { delete (Prog*)*p; return 0; }
E hiprtcAddNameExpression(P p, const char* n) { ((Prog*)p)->names.push_back(n); return 0; }
E hiprtcGetLoweredName(P p, const char* n, const char** o) { *o = n; return 0; }
E hiprtcCompileProgram(P pp, int no, const char** o) {
  auto p = (Prog*)pp; if (p->code.size()) return 0; n_compile++;
  std::string base = std::string(DIR()) + "/kern/k" + std::to_string(getpid()) + "_" + std::to_string(n_compile), cmd = "g++ -std=c++17 -O1 -w -fPIC -shared -D__HIPCC_RTC__ -I" + std::string(DIR()) + "/include -include " + DIR() + "/include/prelude.h ";
  for (int i = 0; i < no; i++) if (!strncmp(o[i], "-I", 2) || !strncmp(o[i], "-D", 2)) cmd += std::string("'") + o[i] + "' ";
  std::ofstream f(base + ".cpp"); f << p->src << "\n";
  std::regex re("__global__\\s+void\\s+(\\w+)\\s*\\("); bool bar = p->src.find("__sync") != std::string::npos;
  for (std::sregex_iterator i(p->src.begin(), p->src.end(), re), e; i != e; ++i) { auto n = (*i)[1].str();
    f << "static void _e_" << n << "(void** p) { _call(&" << n << ", p); }\nextern \"C\" __global__ void _run_" << n << "(void** p, dim3 g, dim3 b) { _run(_e_" << n << ", p, g, b, " << bar << "); }\n"; }
  f.close(); cmd += base + ".cpp -o " + base + ".so > " + base + ".log 2>&1";
  int rc = system(cmd.c_str()); std::ifstream l(base + ".log"); std::stringstream ls; ls << l.rdbuf(); p->log = ls.str();
  if (rc) { if (LOG()) fprintf(stderr, "%s\n%s\n", cmd.c_str(), p->log.substr(0, 3000).c_str()); return 6; }
  std::ifstream b(base + ".so", std::ios::binary); std::stringstream bs; bs << b.rdbuf(); uint64_t n = bs.str().size();
  p->code = std::string("FKHP\0\0\0\0", 8) + std::string((char*)&n, 8) + bs.str(); return 0; }
E hiprtcGetCodeSize(P p, size_t* n) { *n = ((Prog*)p)->code.size(); return 0; } E hiprtcGetCode(P p, char* c) { memcpy(c, ((Prog*)p)->code.data(), ((Prog*)p)->code.size()); return 0; }
E hiprtcGetProgramLogSize(P p, size_t* n) { *n = ((Prog*)p)->log.size() + 1; return 0; } E hiprtcGetProgramLog(P p, char* c) { strcpy(c, ((Prog*)p)->log.c_str()); return 0; }
// ---- modules
E hipModuleLoadData(P* m, const char* d) { static int k; std::string f = std::string(DIR()) + "/kern/m" + std::to_string(getpid()) + "_" + std::to_string(k++) + ".so"; uint64_t n; memcpy(&n, d + 8, 8); std::ofstream(f, std::ios::binary).write(d + 16, n); *m = dlopen(f.c_str(), RTLD_NOW | RTLD_LOCAL); if (!*m) { fprintf(stderr, "%s\n", dlerror()); return 1; } unlink(f.c_str()); return 0; }
E hipModuleUnload(P) { return 0; }
E hipModuleGetFunction(P* f, P m, const char* n) { *f = dlsym(m, (std::string("_run_") + n).c_str()); if (!*f) fprintf(stderr, "cupy_on_host: no kernel %s\n", n); return *f ? 0 : 500; }
E hipModuleLaunchKernel(P f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, P, P* p, P*) { n_launch++; ((void (*)(P*, dim3, dim3))f)(p, dim3{gx, gy, gz}, dim3{bx, by, bz}); return 0; }
E hipFuncGetAttribute(int* p, int, P) { *p = 1024; return 0; }
E hipOccupancyMaxActiveBlocksPerMultiprocessor(int* n, P, int, size_t) { *n = 1; return 0; }
// ---- blas (column major)
E hipblasCreate(P* h) { *h = malloc(8); return 0; } E hipblasDestroy(P) { return 0; } E hipblasSetStream(P, P) { return 0; } E hipblasSetPointerMode(P, int) { return 0; } E hipblasGetPointerMode(P, int* m) { *m = 0; return 0; }
}
template <class T, class C> static void gemm(int ta, int tb, int m, int n, int k, C al, const T* A, long lda, const T* B, long ldb, C be, T* D, long ldc) {
  n_gemm++;
  for (int j = 0; j < n; j++) for (int i = 0; i < m; i++) { C s = 0;
    for (int l = 0; l < k; l++) s += (C)(ta == 111 ? A[i + l * lda] : A[l + i * lda]) * (C)(tb == 111 ? B[l + j * ldb] : B[j + l * ldb]);
    D[i + j * ldc] = (T)(be == 0 ? al * s : al * s + be * (C)D[i + j * ldc]); } }
extern "C" {
#define G(X, T) \
E hipblas##X##gemm(P, int ta, int tb, int m, int n, int k, const T* al, const T* A, int lda, const T* B, int ldb, const T* be, T* C, int ldc) { gemm<T, T>(ta, tb, m, n, k, *al, A, lda, B, ldb, *be, C, ldc); return 0; } \
E hipblas##X##gemmBatched(P, int ta, int tb, int m, int n, int k, const T* al, const T* const* A, int lda, const T* const* B, int ldb, const T* be, T* const* C, int ldc, int c) { for (int i = 0; i < c; i++) gemm<T, T>(ta, tb, m, n, k, *al, A[i], lda, B[i], ldb, *be, C[i], ldc); return 0; } \
E hipblas##X##gemmStridedBatched(P, int ta, int tb, int m, int n, int k, const T* al, const T* A, int lda, long sa, const T* B, int ldb, long sb, const T* be, T* C, int ldc, long sc, int c) { for (int i = 0; i < c; i++) gemm<T, T>(ta, tb, m, n, k, *al, A + i * sa, lda, B + i * sb, ldb, *be, C + i * sc, ldc); return 0; }
G(S, float) G(D, double)
E hipblasGemmStridedBatchedEx(P h, int ta, int tb, int m, int n, int k, P al, P A, int at, int lda, long sa, P B, int bt, int ldb, long sb, P be, P C, int ct, int ldc, long sc, int c, int comp, int algo) {
  if (at == 1) return hipblasDgemmStridedBatched(h, ta, tb, m, n, k, (double*)al, (double*)A, lda, sa, (double*)B, ldb, sb, (double*)be, (double*)C, ldc, sc, c);
  if (at == 0) return hipblasSgemmStridedBatched(h, ta, tb, m, n, k, (float*)al, (float*)A, lda, sa, (float*)B, ldb, sb, (float*)be, (float*)C, ldc, sc, c);
  fprintf(stderr, "cupy_on_host: gemm type %d\n", at); return 7; }
E hipblasGemmEx(P h, int ta, int tb, int m, int n, int k, P al, P A, int at, int lda, P B, int bt, int ldb, P be, P C, int ct, int ldc, int comp, int algo) {
  if (at == 1) return hipblasDgemm(h, ta, tb, m, n, k, (double*)al, (double*)A, lda, (double*)B, ldb, (double*)be, (double*)C, ldc);
  if (at == 0) return hipblasSgemm(h, ta, tb, m, n, k, (float*)al, (float*)A, lda, (float*)B, ldb, (float*)be, (float*)C, ldc);
  if (at == 2) { gemm<_Float16, float>(ta, tb, m, n, k, *(float*)al, (_Float16*)A, lda, (_Float16*)B, ldb, *(float*)be, (_Float16*)C, ldc); return 0; }
  fprintf(stderr, "cupy_on_host: gemm type %d\n", at); return 7; }
}
