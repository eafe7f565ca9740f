// Everything is inlined; this file only compiles the header on its own.
#include "CWeirScan.h"
